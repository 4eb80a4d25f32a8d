use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    Remembered,
    format::{Answered, Asked, Format, Known, RequestOperator, ResponseOperator},
};
use crate::config::{Address, AppendAction, HeaderFormat, HeaderMutation};

/// The changes of a route's levels, in the order in which they apply. A level sees what the one
/// before made.
#[derive(Debug)]
pub(super) struct Levels<O>(Box<[Level<O>]>);

/// The changes of one level. As in Envoy, removals come first; then all values are made from what
/// is there; then headers are overwritten; then they are added.
#[derive(Debug)]
struct Level<O> {
    remove: Box<[HeaderName]>,
    put: Box<[Put<O>]>,
}

#[derive(Debug)]
struct Put<O> {
    name: HeaderName,
    value: Format<O>,
    append: AppendAction,
    keep_empty: bool,
}

/// What changes in responses.
#[derive(Debug)]
pub(super) struct ResponseEdit {
    levels: Levels<ResponseOperator>,
    /// What they need of the request.
    remember: Box<[RequestOperator]>,
}

// === impl Levels ===

impl Levels<RequestOperator> {
    pub(super) fn of_requests<'a>(
        levels: impl Iterator<Item = &'a [HeaderMutation]>,
        known: &Known<'_>,
    ) -> Self {
        Self::compile(levels, |format| {
            Format::compile(format, known, RequestOperator::compile)
        })
    }

    /// Changes the headers of a request.
    pub(super) fn request(&self, asked: &Asked<'_>, headers: &mut HeaderMap) {
        self.apply(headers, |operator, headers, out| {
            asked.write(operator, headers, out);
        });
    }
}

impl<O> Levels<O> {
    fn compile<'a>(
        levels: impl Iterator<Item = &'a [HeaderMutation]>,
        mut format: impl FnMut(&HeaderFormat) -> Format<O>,
    ) -> Self {
        let some = levels.filter(|mutations| !mutations.is_empty());
        Self(
            some.map(|mutations| Level::compile(mutations, &mut format))
                .collect(),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes `headers`; `write` makes the text of operators from the headers as they are.
    fn apply(&self, headers: &mut HeaderMap, mut write: impl FnMut(&O, &HeaderMap, &mut Vec<u8>)) {
        for level in &self.0 {
            level.apply(headers, &mut write);
        }
    }
}

// === impl Level ===

impl<O> Level<O> {
    fn compile(
        mutations: &[HeaderMutation],
        mut format: impl FnMut(&HeaderFormat) -> Format<O>,
    ) -> Self {
        let (mut remove, mut put) = (Vec::new(), Vec::new());
        for mutation in mutations {
            match mutation {
                HeaderMutation::Remove(name) => remove.push(name.clone()),
                HeaderMutation::Put {
                    name,
                    value,
                    append,
                    keep_empty,
                } => put.push(Put {
                    name: name.clone(),
                    value: format(value),
                    append: *append,
                    keep_empty: *keep_empty,
                }),
            }
        }
        Self {
            remove: remove.into(),
            put: put.into(),
        }
    }

    fn apply(&self, headers: &mut HeaderMap, mut write: impl FnMut(&O, &HeaderMap, &mut Vec<u8>)) {
        for name in &self.remove {
            headers.remove(name);
        }
        let values: Vec<_> = self
            .put
            .iter()
            .map(|put| put.value(headers, &mut write))
            .collect();
        // One that the map has no room for is left out.
        let (add, overwrite): (Vec<_>, Vec<_>) = self
            .put
            .iter()
            .zip(values)
            .filter_map(|(put, value)| Some((put, value?)))
            .partition(|(put, _)| put.adds());
        for (put, value) in overwrite {
            drop(headers.try_insert(&put.name, value));
        }
        for (put, value) in add {
            drop(headers.try_append(&put.name, value));
        }
    }
}

// === impl Put ===

impl<O> Put<O> {
    /// Its value. `None`: nothing is to be done.
    fn value(
        &self,
        headers: &HeaderMap,
        mut write: impl FnMut(&O, &HeaderMap, &mut Vec<u8>),
    ) -> Option<HeaderValue> {
        let wanted = match self.append {
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
            AppendAction::AddIfAbsent => !headers.contains_key(&self.name),
            AppendAction::OverwriteIfExists => headers.contains_key(&self.name),
        };
        let value = wanted.then(|| {
            self.value
                .value(|operator, out| write(operator, headers, out))
        });
        value
            .flatten()
            .filter(|value| self.keep_empty || !value.is_empty())
    }

    fn adds(&self) -> bool {
        match self.append {
            AppendAction::AppendIfExistsOrAdd | AppendAction::AddIfAbsent => true,
            AppendAction::OverwriteIfExistsOrAdd | AppendAction::OverwriteIfExists => false,
        }
    }
}

// === impl ResponseEdit ===

impl ResponseEdit {
    /// `None`: nothing changes.
    pub(super) fn compile<'a>(
        levels: impl Iterator<Item = &'a [HeaderMutation]>,
        known: &Known<'_>,
    ) -> Option<Box<Self>> {
        let mut remember = Vec::new();
        let levels = Levels::compile(levels, |format| {
            Format::compile(format, known, |operator| {
                ResponseOperator::compile(operator, &mut remember)
            })
        });
        let some = !levels.is_empty();
        some.then(|| {
            Box::new(Self {
                levels,
                remember: remember.into(),
            })
        })
    }

    /// What the response's changes need of this request.
    pub(super) fn remember(&self, asked: &Asked<'_>, headers: &HeaderMap) -> Remembered {
        let read = |operator| {
            let mut value = Vec::new();
            asked.write(operator, headers, &mut value);
            value
        };
        let some = !self.remember.is_empty();
        Remembered(some.then(|| self.remember.iter().map(read).collect()))
    }

    pub(super) fn apply(
        &self,
        status: StatusCode,
        headers: &mut HeaderMap,
        remembered: &Remembered,
        endpoint: Option<&Address>,
    ) {
        let answered = Answered {
            status,
            endpoint,
            remembered: remembered.0.as_deref().unwrap_or_default(),
        };
        self.levels.apply(headers, |operator, headers, out| {
            answered.write(operator, headers, out);
        });
    }
}

/// Sets a header. A value that cannot stand in one, or has no room, is left out.
pub(super) fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        drop(headers.try_insert(name, value));
    }
}
