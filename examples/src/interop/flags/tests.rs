use super::*;

/// The flags of a command line that is valid, with the server given first.
fn flags(line: &str) -> Flags {
    match parse(arguments(line)) {
        Ok(Command::Run(flags)) => *flags,
        other => panic!("{line:?}: {other:?}"),
    }
}

fn arguments(line: &str) -> Vec<String> {
    std::iter::once("--server=xds:///s")
        .chain(line.split_whitespace())
        .map(str::to_owned)
        .collect()
}

#[test]
fn only_the_server_is_required() {
    let flags = flags("");
    assert_eq!(flags.server, "xds:///s");
    assert_eq!(
        (flags.num_channels, flags.qps, flags.stats_port),
        (1, 1, 8081)
    );
    assert_eq!(flags.rpc, [Method::UnaryCall]);
    assert_eq!(flags.rpc_timeout, Duration::from_secs(20));
    assert_eq!(flags.expect_status, Code::Ok);
    assert!(!flags.secure_mode && !flags.print_response && !flags.fail_on_failed_rpc);
}

#[test]
fn flags_take_values_in_both_forms() {
    type Check = fn(&Flags) -> bool;
    let cases: [(&str, Check); 17] = [
        ("--server=xds:///other:80", |flags| {
            flags.server == "xds:///other:80"
        }),
        ("--server xds:///other:80", |flags| {
            flags.server == "xds:///other:80"
        }),
        ("--num_channels=3", |flags| flags.num_channels == 3),
        ("--qps 250", |flags| flags.qps == 250),
        ("--qps=5 --qps=6", |flags| flags.qps == 6),
        ("--rpc=EmptyCall", |flags| flags.rpc == [Method::EmptyCall]),
        ("--rpc UnaryCall,EmptyCall", |flags| {
            flags.rpc == [Method::UnaryCall, Method::EmptyCall]
        }),
        ("--rpc_timeout_sec=2", |flags| {
            flags.rpc_timeout == Duration::from_secs(2)
        }),
        ("--stats_port=0", |flags| flags.stats_port == 0),
        ("--secure_mode=true", |flags| flags.secure_mode),
        ("--secure_mode", |flags| flags.secure_mode),
        ("--secure_mode --qps=2", |flags| {
            flags.secure_mode && flags.qps == 2
        }),
        ("--secure_mode --secure_mode false", |flags| {
            !flags.secure_mode
        }),
        ("--print_response True", |flags| flags.print_response),
        ("--print_response --print_response=0", |flags| {
            !flags.print_response
        }),
        ("--expect_status=UNAVAILABLE", |flags| {
            flags.expect_status == Code::Unavailable
        }),
        ("--fail_on_failed_rpc=1", |flags| flags.fail_on_failed_rpc),
    ];
    for (line, check) in cases {
        assert!(check(&flags(line)), "{line}");
    }
}

#[test]
fn metadata_goes_with_its_method() {
    let metadata = flags("--metadata=EmptyCall:k1:v1,UnaryCall:k2:v2,EmptyCall:k1:v3").metadata;
    let values: Vec<_> = metadata[Method::EmptyCall].get_all("k1").iter().collect();
    assert_eq!(values, ["v1", "v3"]);
    assert_eq!(metadata[Method::UnaryCall].get("k2").unwrap(), "v2");
    assert!(metadata[Method::UnaryCall].get("k1").is_none());
    assert!(flags("--metadata=").metadata[Method::EmptyCall].is_empty());
}

#[test]
fn every_status_has_its_name() {
    for (number, name) in (0..).zip(CODES) {
        assert_eq!(code(name), Ok(Code::from_i32(number)), "{name}");
        let squeezed = name.replace('_', "").to_lowercase();
        assert_eq!(
            format!("{:?}", Code::from_i32(number)).to_lowercase(),
            squeezed
        );
    }
}

#[test]
fn what_is_not_valid_is_named() {
    let cases = [
        ("--qsp=3", "unknown flag --qsp"),
        (
            "-qps=3",
            "unexpected argument \"-qps=3\": every argument is a --flag",
        ),
        (
            "xds:///s",
            "unexpected argument \"xds:///s\": every argument is a --flag",
        ),
        (
            "--",
            "unexpected argument \"--\": every argument is a --flag",
        ),
        ("--qps", "--qps needs a value: --qps=VALUE"),
        ("--qps --rpc=EmptyCall", "--qps needs a value: --qps=VALUE"),
        ("--qps=0", "--qps=0: use a whole number from 1 to 1000000"),
        ("--qps=-1", "--qps=-1: use a whole number from 1 to 1000000"),
        (
            "--num_channels=0",
            "--num_channels=0: use a whole number from 1 to 1000",
        ),
        (
            "--stats_port=65536",
            "--stats_port=65536: use a whole number from 0 to 65535",
        ),
        ("--secure_mode=yes", "--secure_mode=yes: use true or false"),
        (
            "--rpc=Ping",
            "--rpc=Ping: unknown method \"Ping\": use EmptyCall or UnaryCall",
        ),
        (
            "--rpc=",
            "--rpc=: unknown method \"\": use EmptyCall or UnaryCall",
        ),
        ("--server=", "--server=: name a target"),
        (
            "--metadata=UnaryCall:k",
            "--metadata=UnaryCall:k: \"UnaryCall:k\" is not METHOD:KEY:VALUE",
        ),
    ];
    for (line, text) in cases {
        assert_eq!(
            parse(arguments(line)).unwrap_err().to_string(),
            text,
            "{line}"
        );
    }
    let error = parse(["--qps=1"]).unwrap_err();
    assert_eq!(error.to_string(), "--server is required");
    let error = parse(arguments("--metadata=UnaryCall:ä:v"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"UnaryCall:ä:v\": metadata key \"ä\" is no header name"),
        "{error}"
    );
    let error = parse(arguments("--expect_status=FINE"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("use one of OK, CANCELLED"), "{error}");
}

#[test]
fn help_names_every_flag_and_needs_none() {
    assert!(matches!(parse(["--help"]), Ok(Command::Help)));
    let help = help();
    for flag in &FLAGS {
        assert!(
            help.contains(&format!("--{}={}\n", flag.name, flag.value)),
            "{}",
            flag.name
        );
    }
}
