//! Tables of the fields that a decoder knows, and the walk that reports all others.

/// The fields of one protobuf message, as a decoder treats them.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its full name, such as `envoy.config.route.v3.Route`.
    pub(crate) name: &'static str,
    /// Fields that the decoder knows. One that is set and not listed is ignored, and reported.
    pub(crate) fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its number.
    pub(crate) number: u32,
    /// Its name.
    pub(crate) name: &'static str,
    /// What becomes of it when it is set.
    pub(crate) treat: Treat,
}

/// What becomes of a field that is set.
#[derive(Debug)]
pub(crate) enum Treat {
    /// In force, or its decoder rejects what it does not accept.
    Enforced,
    /// In force in another way; says how.
    Approximated(&'static str),
    /// Without effect; says why.
    Ignored(&'static str),
    /// A message with a table of its own; repeated or not.
    Message(&'static Message),
    /// A `map` whose values are messages with a table of their own.
    Map(&'static Message),
    /// Without effect here, and leaving it out would let through what it forbids: the resource is
    /// rejected. Says what it would restrict.
    Restricts(&'static str),
}
