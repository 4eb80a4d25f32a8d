use proptest::prelude::*;

use super::*;
use crate::control::xds::FilterRegistry;

fn parts(value: &str) -> Result<Vec<FormatPart>, String> {
    let allowed = ["a", "A)B", "POD_NAME"].map(str::to_owned);
    format(
        value,
        &mut Context::new(&FilterRegistry::standard()).reading(&allowed),
    )
    .map_err(|error| error.problem().to_owned())
    .and_then(|value| match value {
        Value::Known(format) => Ok(format.0.to_vec()),
        Value::Unknown(note) => Err(format!("unknown: {note}")),
    })
}

fn text(text: &str) -> FormatPart {
    FormatPart::Text(text.to_owned())
}

fn read(make: fn(String, Option<String>, Option<usize>) -> FormatOperator) -> FormatPart {
    FormatPart::Operator(make("x-a".into(), Some(":path".into()), Some(7)))
}

#[test]
fn values() {
    use FormatOperator as Is;
    let plain = |operator| FormatPart::Operator(operator);
    let header = |name: &str| {
        plain(Is::Request {
            name: name.to_owned(),
            alternative: None,
            max_length: None,
        })
    };
    for (value, expected) in [
        ("", vec![]),
        ("plain", vec![text("plain")]),
        ("100%%", vec![text("100%")]),
        ("%%%%a", vec![text("%%a")]),
        (
            "%%%PROTOCOL%%%",
            vec![text("%"), plain(Is::Protocol), text("%")],
        ),
        ("%REQ(X-A)%", vec![header("x-a")]),
        ("%REQ(X-A?)%", vec![header("x-a")]),
        ("%REQ(:METHOD)%", vec![header(":method")]),
        ("%REQ(X-A?:path):7%", vec![read(request)]),
        ("%REQUEST_HEADER(X-A?:path):7%", vec![read(request)]),
        ("%RESP(x-a?:path):7%", vec![read(response)]),
        (
            "a %UPSTREAM_HOST% b%HOSTNAME%",
            vec![
                text("a "),
                plain(Is::UpstreamHost),
                text(" b"),
                plain(Is::Hostname),
            ],
        ),
        ("%START_TIME()%", vec![plain(Is::StartTime)]),
        (
            "t=%START_TIME(%Y/%m/%dT%H:%M:%S%z %s)%",
            vec![
                text("t="),
                plain(Is::StartTimeAs(
                    TimeFormat::parse("%Y/%m/%dT%H:%M:%S%z %s").unwrap(),
                )),
            ],
        ),
        (
            "%ENVIRONMENT(A)B)%",
            vec![plain(Is::Environment("A)B".into()))],
        ),
    ] {
        assert_eq!(parts(value), Ok(expected), "{value}");
    }
}

#[test]
fn every_operator_is_read() {
    for (name, operator) in OPERATORS {
        let value = match operator {
            Operator::Plain(_) | Operator::Time => format!("%{name}%"),
            Operator::Text(_) | Operator::Header(_) => format!("%{name}(a)%"),
        };
        assert!(
            matches!(parts(&value).as_deref(), Ok([FormatPart::Operator(_)])),
            "{value}"
        );
    }
}

#[test]
fn values_that_are_refused() {
    for (value, problem) in [
        ("100%", "no operator at byte 3"),
        ("%a%", "no operator at byte 0"),
        ("a%REQ(x%", "no operator at byte 1"),
        ("%REQ(x):%", "no operator"),
        ("%REQ(x):a%", "no operator"),
        ("%%%", "no operator at byte 2"),
        ("%REQ%", "%REQ%: it needs an argument"),
        ("%REQ()%", "%REQ%: it needs an argument"),
        ("%REQ(a b)%", "is not a header's name"),
        ("%REQ(a?b?c)%", "is not a header's name"),
        (
            "%REQ(a):99999999999999999999999%",
            "its length is too large",
        ),
        ("%PROTOCOL()%", "%PROTOCOL%: it takes neither"),
        ("%PROTOCOL:3%", "%PROTOCOL%: it takes neither"),
        ("%START_TIME(%Q)%", "unknown: %START_TIME%: the format"),
        ("%START_TIME(%s):3%", "%START_TIME%: it takes no length"),
        ("%ENVIRONMENT(A):3%", "%ENVIRONMENT%: it takes no length"),
        (
            "%ENVIRONMENT(SECRET)%",
            "unknown: %ENVIRONMENT(SECRET)%: this variable",
        ),
        ("%ENVIRONMENT(POD)%", "not one of Options::environment"),
        ("%ENVIRONMENT(pod_name)%", "not one of Options::environment"),
        ("\u{7f}", "control character"),
    ] {
        let error = parts(value).unwrap_err();
        assert!(error.contains(problem), "{value}: {error}");
    }
    let error = parts("%TRACE_ID%").unwrap_err();
    assert!(
        error.starts_with("unknown: %TRACE_ID%: this operator is not known here"),
        "{error}"
    );
    for (name, _) in OPERATORS {
        assert!(error.contains(name), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(value in "[%A-Z():0-9?a ]{0,40}") {
        let _ = parts(&value);
    }

    #[test]
    fn text_without_operators_comes_back(value in "[a-z%é ]{0,40}") {
        let expected = match value.as_str() {
            "" => vec![],
            value => vec![text(value)],
        };
        prop_assert_eq!(parts(&value.replace('%', "%%")), Ok(expected));
    }
}

#[test]
fn no_variable_of_the_process_is_read_unless_it_is_allowed() {
    let filters = FilterRegistry::standard();
    let value = format("%ENVIRONMENT(PATH)%", &mut Context::new(&filters)).unwrap();
    assert!(matches!(value, Value::Unknown(_)), "{value:?}");
}
