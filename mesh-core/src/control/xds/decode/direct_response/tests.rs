use envoy_types::pb::{envoy::config::route::v3::route::Action, google::protobuf::UInt32Value};

use super::{
    super::{fixtures::*, test_support::lines},
    *,
};

fn decode(
    status: u32,
    body: Option<Specifier>,
    most: Option<u32>,
) -> Result<(RouteAction, Vec<String>), FieldError> {
    let mut route = any_route();
    route.action = Some(Action::DirectResponse(Wire {
        status,
        body: body.map(|body| DataSource {
            specifier: Some(body),
            ..Default::default()
        }),
        ..Default::default()
    }));
    let mut config = routes(vec![route]);
    config.max_direct_response_body_size_bytes = most.map(|value| UInt32Value { value });
    let (config, findings) = decode_routes(config)?;
    let action = config.virtual_hosts[0].routes[0].action.clone();
    Ok((action, lines(&findings)))
}

const AT: &str = "virtual_hosts[0].routes[0].direct_response";

#[test]
fn answers() {
    for (status, body, expected) in [
        (200, None, ""),
        (599, Some(Specifier::InlineString("no".into())), "no"),
        (404, Some(Specifier::InlineBytes(b"gone".to_vec())), "gone"),
    ] {
        let (action, findings) = decode(status, body, None).unwrap();
        let answer = DirectResponse {
            status: StatusCode::from_u16(status as u16).unwrap(),
            body: expected.into(),
        };
        assert_eq!(action, RouteAction::DirectResponse(answer));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].starts_with(&format!("{AT} h ")), "{findings:?}");
    }
}

#[test]
fn statuses_and_sizes_are_bounded() {
    for status in [0, 100, 199, 600, 70_000] {
        let error = decode(status, None, None).unwrap_err();
        assert_eq!(error.path(), format!("{AT}.status"));
        let problem = format!("must be from 200 to 599, not {status}");
        assert_eq!(error.problem(), problem);
    }
    let body = |length| Some(Specifier::InlineString("x".repeat(length)));
    for (length, most, fits) in [
        (4096, None, true),
        (4097, None, false),
        (4097, Some(4097), true),
        (1, Some(0), false),
    ] {
        let result = decode(200, body(length), most);
        assert_eq!(result.is_ok(), fits, "{length} {most:?}");
        if let Err(error) = result {
            assert_eq!(error.path(), format!("{AT}.body.inline_string"));
        }
    }
}

#[test]
fn a_body_from_elsewhere_fails_requests_and_keeps_the_route() {
    for (body, name) in [
        (Specifier::Filename("/etc/passwd".into()), "filename"),
        (
            Specifier::EnvironmentVariable("HOME".into()),
            "environment_variable",
        ),
    ] {
        let (action, findings) = decode(200, Some(body), None).unwrap();
        assert!(matches!(action, RouteAction::Unsupported(_)), "{action:?}");
        let start = format!("{AT}.body.{name} ~ ");
        assert!(findings[1].starts_with(&start), "{findings:?}");
    }
}
