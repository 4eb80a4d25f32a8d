use std::fmt;

/// A regular expression in RE2 syntax that must match the whole input (`safe_regex`).
///
/// Classes are ASCII, as in RE2; where the expression needs Unicode tables (`\pN`) it is compiled
/// with them. Compiled size and nesting are bounded.
#[derive(Clone)]
pub struct Regex {
    source: String,
    compiled: regex::bytes::Regex,
}

/// Why an expression was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid regular expression: {0}")]
pub struct RegexError(#[from] regex::Error);

impl Regex {
    /// Bytes a compiled expression may take.
    pub const SIZE_LIMIT: usize = 1 << 20;
    /// Levels of nesting an expression may have.
    pub const NEST_LIMIT: u32 = 64;

    /// Compiles `source`, anchored at both ends.
    ///
    /// # Errors
    /// If the syntax is not accepted, or the compiled size or nesting passes the limits.
    pub fn new(source: &str) -> Result<Self, RegexError> {
        let anchored = format!("^(?:{source})$");
        let build = |unicode| {
            regex::bytes::RegexBuilder::new(&anchored)
                .unicode(unicode)
                .size_limit(Self::SIZE_LIMIT)
                .dfa_size_limit(Self::SIZE_LIMIT)
                .nest_limit(Self::NEST_LIMIT)
                .build()
        };
        // The unanchored source must be valid by itself: `a)(b` would otherwise slip through.
        regex_syntax_check(source)?;
        let compiled = match build(false) {
            Err(regex::Error::Syntax(_)) => build(true)?,
            other => other?,
        };
        Ok(Self {
            source: source.to_owned(),
            compiled,
        })
    }

    /// Whether the whole of `input` matches.
    pub fn is_match(&self, input: &[u8]) -> bool {
        self.compiled.is_match(input)
    }

    /// How many groups it captures, without the whole: the last one that `\\N` may refer to.
    pub fn groups(&self) -> usize {
        self.compiled.captures_len() - 1
    }

    /// The expression as configured.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

fn regex_syntax_check(source: &str) -> Result<(), RegexError> {
    let build = |unicode| {
        regex::bytes::RegexBuilder::new(source)
            .unicode(unicode)
            .size_limit(Regex::SIZE_LIMIT)
            .nest_limit(Regex::NEST_LIMIT)
            .build()
            .map(drop)
    };
    match build(false) {
        Err(regex::Error::Syntax(_)) => Ok(build(true)?),
        other => Ok(other?),
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// A test of a string (`envoy.type.matcher.v3.StringMatcher`).
#[derive(Debug, Clone, PartialEq)]
pub struct StringMatcher {
    /// What is looked for. Lower-case already if `ignore_case`.
    pub pattern: StringMatch,
    /// ASCII case is ignored; never applies to an expression.
    pub ignore_case: bool,
}

/// The pattern of a [`StringMatcher`].
#[derive(Debug, Clone, PartialEq)]
pub enum StringMatch {
    /// Contains it.
    Contains(String),
    /// Is it.
    Exact(String),
    /// Starts with it.
    Prefix(String),
    /// Matches it whole.
    Regex(Regex),
    /// Ends with it.
    Suffix(String),
}

impl StringMatcher {
    /// A matcher of `pattern`, made lower-case where case is ignored.
    pub fn new(pattern: StringMatch, ignore_case: bool) -> Self {
        use StringMatch::*;
        let fold = |s: String| {
            if ignore_case {
                s.to_ascii_lowercase()
            } else {
                s
            }
        };
        let (pattern, ignore_case) = match pattern {
            Contains(s) => (Contains(fold(s)), ignore_case),
            Exact(s) => (Exact(fold(s)), ignore_case),
            Prefix(s) => (Prefix(fold(s)), ignore_case),
            Suffix(s) => (Suffix(fold(s)), ignore_case),
            Regex(r) => (Regex(r), false),
        };
        Self {
            pattern,
            ignore_case,
        }
    }

    /// Whether `input` passes. Does not allocate.
    pub fn is_match(&self, input: &[u8]) -> bool {
        let same = |a: &[u8], b: &str| {
            if self.ignore_case {
                a.eq_ignore_ascii_case(b.as_bytes())
            } else {
                a == b.as_bytes()
            }
        };
        match &self.pattern {
            StringMatch::Exact(s) => same(input, s),
            StringMatch::Prefix(s) => input.len() >= s.len() && same(&input[..s.len()], s),
            StringMatch::Suffix(s) => {
                input.len() >= s.len() && same(&input[input.len() - s.len()..], s)
            }
            StringMatch::Contains(s) => {
                s.is_empty() || input.windows(s.len()).any(|window| same(window, s))
            }
            StringMatch::Regex(r) => r.is_match(input),
        }
    }
}

/// A test of one request header (`envoy.config.route.v3.HeaderMatcher`, gRFC A28 and A63).
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatcher {
    /// The header's name, lower-case; pseudo-headers as `:method`, `:path`, `:authority`, `:scheme`.
    pub name: String,
    /// What is asked of its value.
    pub test: HeaderMatch,
    /// The result is inverted.
    pub invert: bool,
    /// An absent header is an empty value (HTTP semantics only).
    pub treat_missing_as_empty: bool,
}

/// What a [`HeaderMatcher`] asks.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderMatch {
    /// The header is there, or is not.
    Present(bool),
    /// A base-10 integer in `start..end`.
    Range {
        /// First value inside.
        start: i64,
        /// First value outside.
        end: i64,
    },
    /// The value passes a string test.
    Value(StringMatcher),
}

/// A share of calls, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fraction(u32);

impl Fraction {
    /// Parts in the whole.
    pub const WHOLE: u32 = 1_000_000;

    /// `parts` per million; more than the whole is the whole.
    pub const fn per_million(parts: u32) -> Self {
        match parts {
            0..Self::WHOLE => Self(parts),
            _ => Self(Self::WHOLE),
        }
    }

    /// Parts per million.
    pub fn parts(self) -> u32 {
        self.0
    }

    /// One draw: true for this share of calls.
    pub fn draw(self) -> bool {
        match self.0 {
            0 => false,
            Self::WHOLE => true,
            parts => fastrand::u32(0..Self::WHOLE) < parts,
        }
    }
}
