use std::sync::Arc;

/// How a time is written: text with specifiers such as `%Y-%m-%d` in it (Envoy, "Access logging":
/// `%START_TIME(...)%`, which is that of strftime and of fractions of a second). In UTC, in English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat(pub(crate) Arc<[TimePart]>);

/// A part of a [`TimeFormat`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimePart {
    Text(String),
    /// `%Y`.
    Year,
    /// `%y`: two digits.
    YearOfCentury,
    /// `%m`.
    Month,
    /// `%b` and `%h`: `Nov`.
    MonthName,
    /// `%B`: `November`.
    MonthFullName,
    /// `%d`.
    Day,
    /// `%e`: with a space before one digit.
    SpacedDay,
    /// `%j`: of the year, from 001 on.
    DayOfYear,
    /// `%a`: `Mon`.
    WeekdayName,
    /// `%A`: `Monday`.
    WeekdayFullName,
    /// `%H`.
    Hour,
    /// `%I`: 01 to 12.
    HourOfHalf,
    /// `%p`: `AM` or `PM`.
    Half,
    /// `%M`.
    Minute,
    /// `%S`.
    Second,
    /// `%s`: seconds since 1970.
    Epoch,
    /// `%f` (nine digits), `%1f` to `%9f`.
    Fraction(u8),
}

// === impl TimeFormat ===

impl TimeFormat {
    /// Reads a format. `None`: it has a specifier that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        read(text, &mut parts)?;
        Some(Self(parts.into()))
    }
}

fn read(text: &str, parts: &mut Vec<TimePart>) -> Option<()> {
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '%' {
            push(parts, char);
            continue;
        }
        let part = match rest.next()? {
            '%' => {
                push(parts, '%');
                continue;
            }
            // What stands for several.
            'F' => {
                read("%Y-%m-%d", parts)?;
                continue;
            }
            'T' => {
                read("%H:%M:%S", parts)?;
                continue;
            }
            'R' => {
                read("%H:%M", parts)?;
                continue;
            }
            'D' => {
                read("%m/%d/%y", parts)?;
                continue;
            }
            'z' => TimePart::Text("+0000".into()),
            'Z' => TimePart::Text("UTC".into()),
            'Y' => TimePart::Year,
            'y' => TimePart::YearOfCentury,
            'm' => TimePart::Month,
            'b' | 'h' => TimePart::MonthName,
            'B' => TimePart::MonthFullName,
            'd' => TimePart::Day,
            'e' => TimePart::SpacedDay,
            'j' => TimePart::DayOfYear,
            'a' => TimePart::WeekdayName,
            'A' => TimePart::WeekdayFullName,
            'H' => TimePart::Hour,
            'I' => TimePart::HourOfHalf,
            'p' => TimePart::Half,
            'M' => TimePart::Minute,
            'S' => TimePart::Second,
            's' => TimePart::Epoch,
            'f' => TimePart::Fraction(9),
            digits @ '1'..='9' if rest.next() == Some('f') => {
                TimePart::Fraction(u8::try_from(digits.to_digit(10)?).ok()?)
            }
            _ => return None,
        };
        parts.push(part);
    }
    Some(())
}

fn push(parts: &mut Vec<TimePart>, char: char) {
    match parts.last_mut() {
        Some(TimePart::Text(text)) => text.push(char),
        _ => parts.push(TimePart::Text(char.into())),
    }
}
