use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::config::{TimeFormat, TimePart};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From the day of 1970-01-01 on.
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// As `2026-11-23T09:30:00.123Z`, which is Envoy's default.
pub(super) fn format(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// As `format` says.
pub(super) fn format_as(time: SystemTime, format: &TimeFormat) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[(month as usize - 1) % 12];
    let weekday = WEEKDAYS[(days % 7) as usize];
    let mut out = String::new();
    for part in &*format.0 {
        // A string takes all that is written.
        let _ = match part {
            TimePart::Text(text) => out.write_str(text),
            TimePart::Year => write!(out, "{year:04}"),
            TimePart::YearOfCentury => write!(out, "{:02}", year % 100),
            TimePart::Month => write!(out, "{month:02}"),
            TimePart::MonthName => out.write_str(&month_name[..3]),
            TimePart::MonthFullName => out.write_str(month_name),
            TimePart::Day => write!(out, "{day:02}"),
            TimePart::SpacedDay => write!(out, "{day:2}"),
            TimePart::DayOfYear => write!(out, "{:03}", day_of_year(year, month, day)),
            TimePart::WeekdayName => out.write_str(&weekday[..3]),
            TimePart::WeekdayFullName => out.write_str(weekday),
            TimePart::Hour => write!(out, "{hour:02}"),
            TimePart::HourOfHalf => write!(out, "{:02}", (hour + 11) % 12 + 1),
            TimePart::Half => out.write_str(if hour < 12 { "AM" } else { "PM" }),
            TimePart::Minute => write!(out, "{minute:02}"),
            TimePart::Second => write!(out, "{second:02}"),
            TimePart::Epoch => write!(out, "{}", since.as_secs()),
            TimePart::Fraction(digits) => {
                let digits = usize::from(*digits).min(9);
                let nanos = format!("{:09}", since.subsec_nanos());
                out.write_str(&nanos[..digits])
            }
        };
    }
    out
}

fn day_of_year(year: u64, month: u64, day: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][(month as usize - 1) % 12];
    before + u64::from(is_leap && month > 2) + day
}

/// The Gregorian date that is so many days after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that a leap day is the last of its year; 400 of them are an era
    // of 146097 days, and the first era began on 0000-03-01, 719468 days before.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64, format: &str) -> String {
        let time = UNIX_EPOCH + Duration::new(seconds, 12_345_678);
        format_as(time, &TimeFormat::parse(format).expect(format))
    }

    #[test]
    fn times_are_written_as_formats_say() {
        // 2026-11-23T21:05:09Z, a Monday.
        const TIME: u64 = 1_795_467_909;
        for (format, expected) in [
            (
                "%Y/%m/%dT%H:%M:%S%z %s",
                "2026/11/23T21:05:09+0000 1795467909",
            ),
            ("%FT%T.%3fZ", "2026-11-23T21:05:09.012Z"),
            ("%s.%f|%1f|%6f", "1795467909.012345678|0|012345"),
            ("%a, %d %b %Y %R %Z", "Mon, 23 Nov 2026 21:05 UTC"),
            ("%A %B %h %e %j", "Monday November Nov 23 327"),
            ("%I:%M %p %D %y 100%%", "09:05 PM 11/23/26 26 100%"),
            ("", ""),
        ] {
            assert_eq!(at(TIME, format), expected, "{format}");
        }
        assert_eq!(at(0, "%F %a %j %I%p %e"), "1970-01-01 Thu 001 12AM  1");
        // The last day of a leap year, and the day after February.
        assert_eq!(at(1_735_603_200, "%F %j"), "2024-12-31 366");
        assert_eq!(at(1_709_251_200, "%F %j"), "2024-03-01 061");
    }

    #[test]
    fn specifiers_that_are_not_known_are_told() {
        for format in ["%", "%Q", "a%", "%3", "%3s", "%0f", "%E4S", "%10f"] {
            assert_eq!(TimeFormat::parse(format), None, "{format}");
        }
    }
}
