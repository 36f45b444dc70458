//! What may be reached.

use super::*;

#[tokio::test]
async fn loopback_is_refused_by_default_however_it_is_named() {
    let (listener, port) = listen().await;
    let client = Outbound::new(Arc::default());
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
        for scheme in ["http", "https"] {
            let error = failure(&client, &url(scheme, host, port), LONG).await;
            assert_eq!(error.kind(), "forbidden", "{host}");
            assert!(error.to_string().contains("`outbound.allow`"), "{error}");
            assert!(error.to_string().starts_with(&host.to_lowercase()), "{error}");
        }
    }
    assert!(is_untouched(listener).await);
}

#[tokio::test]
async fn an_address_that_only_the_system_reads_as_one_is_judged_as_what_it_is_read_as() {
    let connector = Connector::new(Arc::default(), roots::tls_connector(None).unwrap(), BOUNDS);
    for name in ["0x7f.1", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "0", "0xa9fea9fe", "localhost."]
    {
        let target = Target { host: Host::Name(name.to_owned()), port: 80 };
        let problem = connector.allowed_addresses(&target).await.unwrap_err();
        assert!(matches!(problem, ConnectProblem::Forbidden | ConnectProblem::Unresolvable), "{name}");
    }
}

#[tokio::test]
async fn a_host_that_is_allowed_by_name_is_not_allowed_by_address() {
    let port = serve_bytes(OK).await;
    let client = Outbound::new(policy(&["localhost"]));
    assert_eq!(failure(&client, &url("http", "127.0.0.1", port), LONG).await.kind(), "forbidden");
    assert_eq!(send(&client, &url("http", "localhost", port), LONG).await.unwrap().body, "ok");
}

#[tokio::test]
async fn a_name_is_allowed_by_the_addresses_that_it_has() {
    let port = serve_bytes(OK).await;
    assert_eq!(send(&client(), &url("http", "localhost", port), LONG).await.unwrap().body, "ok");
}

#[tokio::test]
async fn of_the_addresses_of_a_name_only_those_are_kept_that_are_allowed() {
    let tls = roots::tls_connector(None).unwrap();
    let target = Target { host: Host::Name("localhost".to_owned()), port: 80 };
    let connector = Connector::new(policy(&["127.0.0.0/8"]), tls, BOUNDS);
    let addresses = connector.allowed_addresses(&target).await.unwrap();
    assert!(!addresses.is_empty() && addresses.iter().all(SocketAddr::is_ipv4), "{addresses:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_its_target_is_not_contacted() {
    let (elsewhere, elsewhere_port) = listen().await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let location = format!("http://127.0.0.1:{elsewhere_port}/");
        let answer = format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let port = serve_bytes(answer).await;
        let answer = send(&client(), &url("http", "127.0.0.1", port), LONG).await.unwrap();
        assert_eq!(answer.status.as_str(), &status[..3]);
        assert_eq!(answer.headers[header::LOCATION], location.as_str());
    }
    assert!(is_untouched(elsewhere).await);
}
