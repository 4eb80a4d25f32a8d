use crate::bootstrap::{ServerAddress, ServerConfig};

#[test]
fn every_form_of_server_uri_is_understood() {
    let host = |host: &str, port| ServerAddress::Host {
        host: host.to_owned(),
        port,
    };
    let socket = |text: &str| ServerAddress::Socket(text.parse().unwrap());
    let unix = |path: &str| ServerAddress::Unix(path.into());
    let cases = [
        ("xds.example.com:15012", host("xds.example.com", 15012)),
        ("xds.example.com", host("xds.example.com", 443)),
        ("xds.example.com.:80", host("xds.example.com.", 80)),
        ("under_score:80", host("under_score", 80)),
        ("dns:xds:80", host("xds", 80)),
        ("dns:///xds:80", host("xds", 80)),
        ("dns:///xds", host("xds", 443)),
        ("dns:///10.0.0.1:80", socket("10.0.0.1:80")),
        ("passthrough:///xds:80", host("xds", 80)),
        ("passthrough:///[::1]:80", socket("[::1]:80")),
        ("10.0.0.1:80", socket("10.0.0.1:80")),
        ("10.0.0.1", socket("10.0.0.1:443")),
        ("[::1]:80", socket("[::1]:80")),
        ("[::1]", socket("[::1]:443")),
        ("::1", socket("[::1]:443")),
        ("ipv4:10.0.0.1:80", socket("10.0.0.1:80")),
        ("ipv4:10.0.0.1", socket("10.0.0.1:443")),
        ("ipv4:///10.0.0.1:80", socket("10.0.0.1:80")),
        ("ipv6:[::1]:80", socket("[::1]:80")),
        ("ipv6:[::1]", socket("[::1]:443")),
        ("ipv6:::1", socket("[::1]:443")),
        ("unix:run/xds.sock", unix("run/xds.sock")),
        ("unix:/run/xds.sock", unix("/run/xds.sock")),
        ("unix:///run/xds.sock", unix("/run/xds.sock")),
        ("unix:///run/a%20b", unix("/run/a b")),
        ("unix:////run/xds.sock", unix("//run/xds.sock")),
    ];
    for (uri, expected) in cases {
        let server = ServerConfig::insecure(uri).build().unwrap();
        assert_eq!(server.address(), &expected, "{uri}");
        assert_eq!(server.uri, uri);
        let written = server.address().to_string();
        let again = ServerConfig::insecure(&written).build().unwrap();
        assert_eq!(again.address(), &expected, "{uri} is written {written}");
    }
}

#[test]
fn other_server_uris_say_what_to_write() {
    let cases = [
        ("", "`host:port`"),
        (":80", "host name"),
        ("xds:", "itself"),
        ("host:", "65535"),
        ("host:0", "65535"),
        ("host:65536", "65535"),
        ("host:+80", "65535"),
        ("host:http", "65535"),
        ("10.0.0.1:0", "port 0"),
        ("10.0.0.256:80", "host name"),
        ("10.0.0", "host name"),
        ("a b:80", "host name"),
        ("a..b:80", "host name"),
        ("user@host:80", "host name"),
        ("host/path:80", "host name"),
        ("h\u{f6}st:80", "host name"),
        ("fe80::1::2", "`[::1]:443`"),
        ("[::1:80", "`[::1]:443`"),
        ("dns://8.8.8.8/host:80", "`dns:///...`"),
        ("dns://host:80", "`dns:///...`"),
        ("dns:///", "host name"),
        ("ipv4:host:80", "`ipv4:10.0.0.1:443`"),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", "one IPv4 address"),
        ("ipv6:10.0.0.1:80", "`ipv6:[::1]:443`"),
        ("unix:", "path of a socket"),
        ("unix://run/xds.sock", "third `/`"),
        ("unix:///a%0", "`%25`"),
        ("unix:///a%00", "path of a socket"),
        ("unix-abstract:xds", "abstract sockets"),
        ("xds:///server", "itself"),
        ("https://xds:443", "`xds:443`"),
    ];
    for (uri, words) in cases {
        let error = ServerConfig::insecure(uri).build().expect_err(uri);
        let text = error.to_string();
        assert_eq!(error.field(), Some("server_uri"));
        assert!(text.contains(words), "{words:?} is not in {text:?}");
        assert!(
            text.contains(&format!("{uri:?}")) || !uri.is_ascii(),
            "{text}"
        );
    }
}
