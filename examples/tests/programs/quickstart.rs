//! The quickstart as its users run it: no call fails, and one crosses gRPC and HTTP.

use std::time::Duration;

use crate::support::output_within;

/// What CI gives it, and as much again for a machine that runs other tests.
const LIMIT: Duration = Duration::from_secs(60);

const WEB: &str = "spiffe://shop.example/ns/shop/sa/web";
const GREETER: &str = "spiffe://shop.example/ns/shop/sa/greeter";

/// The milliseconds that a line has before this text.
fn milliseconds(line: &str, after: &str) -> u64 {
    let (before, _) = line.split_once(after).unwrap_or_else(|| panic!("{line:?}"));
    let number = before.rsplit(' ').next().unwrap();
    number.parse().unwrap_or_else(|_| panic!("{line:?}"))
}

#[tokio::test]
async fn no_call_fails_and_one_deadline_and_one_chain_of_identities_cross_both_worlds() {
    let text = output_within(LIMIT, "quickstart", "", &[]).await;
    assert_eq!(text.lines().last(), Some("failed calls: 0"), "{text}");

    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("web -> greeter"));
    let title = lines.next().unwrap();
    assert!(title.ends_with("web waits 2000 ms"), "{title}");
    let (greeter, catalog) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(greeter.contains(&format!("called by {WEB},")), "{greeter}");
    let called = format!("catalog.shop:8080: called by {GREETER},");
    assert!(catalog.contains(&called), "{catalog}");
    let left = [greeter, catalog].map(|line| milliseconds(line, " ms left"));
    assert!(left[0] <= 2000 && left[1] <= left[0], "{left:?}");

    let late = lines.next().unwrap();
    assert!(late.starts_with("the catalog hangs"), "{late}");
    assert!(late.contains("DEADLINE_EXCEEDED after"), "{late}");
    assert!(milliseconds(late, " ms, web waits 300 ms") >= 300, "{late}");
    let catalog = lines.next().unwrap();
    assert!(catalog.contains(&called), "{catalog}");
    assert!(milliseconds(catalog, " ms left") <= 300, "{catalog}");
    assert!(lines.next().unwrap().contains("which gave the request up"));

    // A process of its own, which no control plane has told anything.
    let mut lines = lines.skip_while(|line| !line.starts_with("and a new client starts"));
    let newcomer = lines.next().expect("it starts");
    assert!(newcomer.ends_with("failed 0"), "{newcomer}");
    let resources = lines.nth(1).expect("it says what it has");
    assert!(resources.contains("saved by the last one: "), "{resources}");

    // The golden signals of every service and version.
    assert!(text.contains("http://127.0.0.1:"), "{text}");
    let mut lines = lines.skip_while(|line| !line.starts_with("service "));
    let heads: Vec<_> = lines
        .next()
        .expect("there is a table")
        .split_whitespace()
        .collect();
    let signals = ["calls", "calls/s", "errors", "p50", "p99", "breaker"];
    assert_eq!(heads[2..], signals);
    let rows: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    for (service, version) in [
        ("catalog.shop:8080", "v1"),
        ("greeter.shop:8080", "v1"),
        ("greeter.shop:8080", "v2"),
    ] {
        let of_it = |row: &&&str| {
            let mut cells = row.split_whitespace();
            (cells.next(), cells.next()) == (Some(service), Some(version))
        };
        let row = rows.iter().find(of_it);
        let row = row.unwrap_or_else(|| panic!("no {service} {version} in {rows:?}"));
        let calls: u64 = row.split_whitespace().nth(2).unwrap().parse().unwrap();
        assert!(calls > 1_000 && row.ends_with("closed"), "{row}");
    }
}
