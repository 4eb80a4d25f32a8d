//! The headers by which a request asks its client for retries and times, one by one: Envoy's
//! documentation of its router, "HTTP headers (consumed from downstreams)".

use super::*;

const SHORT: &str = "50";

/// Sends a request with these headers, which may ask for retries; its status and how often the
/// server saw it. What is for the client alone does not arrive.
async fn ask(world: &World, path: &str, headers: &[(&'static str, &'static str)]) -> (u16, u32) {
    let request = world.client.get(format!("http://catalog.shop{path}"));
    let request = headers.iter().fold(request, |request, &(name, value)| {
        request.header(name, value)
    });
    let status = match within(request.retry_headers().send()).await {
        Ok(response) => {
            assert_eq!(response.headers()["x-asked"], "false", "{headers:?}");
            response.status()
        }
        Err(error) => error.status(),
    };
    (status.as_u16(), world.seen())
}

#[tokio::test]
async fn x_envoy_retry_on_has_the_conditions_of_envoy() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        for (on, path, is_covered) in [
            ("5xx", "/fail/1/500", true),
            ("5xx", "/fail/1/404", false),
            ("gateway-error", "/fail/1/502", true),
            ("gateway-error", "/fail/1/504", true),
            ("gateway-error", "/fail/1/500", false),
            ("retriable-4xx", "/fail/1/409", true),
            ("retriable-4xx", "/fail/1/429", false),
            ("retriable-status-codes", "/fail/1/503", false),
            ("retriable-headers", "/with/1/200/x-again", false),
            ("envoy-ratelimited", "/with/1/503/x-envoy-ratelimited", true),
            ("envoy-ratelimited", "/fail/1/503", false),
            // Who was rate limited by an Envoy does not ask again unless told to.
            (
                "5xx,gateway-error,retriable-4xx",
                "/with/1/503/x-envoy-ratelimited",
                false,
            ),
            ("connect-failure,refused-stream,reset", "/fail/1/503", false),
            ("unavailable, 5xx", "/fail/1/500", true),
            ("nothing", "/fail/1/500", false),
        ] {
            let (status, seen) = ask(&world, path, &[("x-envoy-retry-on", on)]).await;
            let context = format!("{protocol:?} {on} {path}");
            assert_eq!(seen, 1 + u32::from(is_covered), "{context}");
            assert_eq!(
                is_covered || path.contains("/200/"),
                status == 200,
                "{context}"
            );
        }
    }
}

#[tokio::test]
async fn x_envoy_max_retries_takes_precedence() {
    let quick = Duration::from_millis(1);
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let on = ("x-envoy-retry-on", "5xx");
        for (retries, attempts) in [("3", 4), ("0", 1), ("many", 2), ("", 2), ("-1", 2)] {
            let headers = [on, ("x-envoy-max-retries", retries)];
            let (_, seen) = ask(&world, "/fail/9/503", &headers).await;
            assert_eq!(seen, attempts, "{protocol:?} {retries:?}");
        }
        // Without a condition there are none.
        let (_, seen) = ask(&world, "/fail/9/503", &[("x-envoy-max-retries", "3")]).await;
        assert_eq!(seen, 1);
        // Also over the number of the route, whose conditions stay.
        let retry = Retry::conditions(["5xx"]).times(3).backoff(quick, quick);
        world.service().retry(retry).apply().acked().await;
        let (_, seen) = ask(&world, "/fail/9/503", &[("x-envoy-max-retries", "1")]).await;
        assert_eq!(seen, 2);
    }
}

#[tokio::test]
async fn statuses_and_header_names_count_with_their_condition() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let statuses = ("x-envoy-retriable-status-codes", "418, x,404");
        let names = ("x-envoy-retriable-header-names", "X-Again, x-more");
        let by_status = ("x-envoy-retry-on", "retriable-status-codes");
        let by_header = ("x-envoy-retry-on", "retriable-headers");
        for (headers, path, attempts) in [
            (&[by_status, statuses][..], "/fail/1/404", 2),
            (&[by_status, statuses], "/fail/1/503", 1),
            (&[("x-envoy-retry-on", "5xx"), statuses], "/fail/1/404", 1),
            (&[by_header, names], "/with/1/200/x-again", 2),
            (&[by_header, names], "/with/1/200/x-other", 1),
            (
                &[("x-envoy-retry-on", "5xx"), names],
                "/with/1/200/x-again",
                1,
            ),
        ] {
            let (_, seen) = ask(&world, path, headers).await;
            assert_eq!(seen, attempts, "{protocol:?} {headers:?} {path}");
        }
    }
}

#[tokio::test]
async fn times_are_asked_for_by_milliseconds() {
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().apply();
        let whole = ("x-envoy-upstream-rq-timeout-ms", SHORT);
        let per_try = ("x-envoy-upstream-rq-per-try-timeout-ms", SHORT);
        let on = ("x-envoy-retry-on", "reset");
        for (headers, path, expected) in [
            (&[whole][..], "/hang/9", (504, 1)),
            // The whole time is for all attempts: once it is over, there is none.
            (&[whole, on], "/hang/9", (504, 1)),
            (&[per_try, on], "/hang/1", (200, 2)),
            (&[per_try, on], "/hang/9", (504, 2)),
            (&[per_try], "/hang/1", (504, 1)),
            // One attempt may not take longer than all of them.
            (
                &[
                    whole,
                    ("x-envoy-upstream-rq-per-try-timeout-ms", "60000"),
                    on,
                ],
                "/hang/9",
                (504, 1),
            ),
            (&[("x-envoy-upstream-rq-timeout-ms", "soon")], "/", (200, 1)),
        ] {
            let got = ask(&world, path, headers).await;
            assert_eq!(got, expected, "{protocol:?} {headers:?} {path}");
        }
    }
}

#[tokio::test]
async fn x_envoy_expected_rq_timeout_ms_tells_what_the_client_waits_for() {
    let expected = async |world: &World, headers: &[(&'static str, &'static str)]| {
        let request = world.client.get("http://catalog.shop/");
        let request = headers.iter().fold(request, |request, &(name, value)| {
            request.header(name, value)
        });
        let response = within(request.send()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let (_, value) = text.split_once("expected=").unwrap();
        value.parse::<u64>().ok()
    };
    for protocol in PROTOCOLS {
        let world = World::start(protocol).await;
        world.service().timeout(Duration::from_secs(7)).apply();
        let per_try = ("x-envoy-upstream-rq-per-try-timeout-ms", "2000");
        let whole = ("x-envoy-upstream-rq-timeout-ms", "3000");
        let own = ("x-envoy-expected-rq-timeout-ms", "9999");
        for (headers, most) in [
            (&[][..], 7000),
            (&[whole], 3000),
            (&[per_try], 2000),
            (&[whole, per_try, own], 2000),
            (&[own], 7000),
        ] {
            let told = expected(&world, headers).await;
            let in_time = most - 1500..=most;
            assert!(told.is_some_and(|told| in_time.contains(&told)), "{told:?}");
        }
        // With no end there is nothing to tell but the time of the attempt.
        world
            .service()
            .timeout(Duration::ZERO)
            .apply()
            .acked()
            .await;
        assert_eq!(expected(&world, &[]).await, None);
        assert_eq!(expected(&world, &[per_try]).await, Some(2000));
        assert_eq!(expected(&world, &[own]).await, None);
    }
}
