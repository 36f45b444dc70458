//! Who is trusted.

use rustls::pki_types::CertificateDer;

use super::*;

/// An authority, and the certificate of a server that it signed.
struct Signed {
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
}

fn sign(name: &str) -> Signed {
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(params, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Signed {
        authority_pem: authority.pem(),
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}

fn self_signed() -> Signed {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let key_pem = made.signing_key.serialize_pem();
    Signed { authority_pem: pem.clone(), certificate_pem: pem, key_pem }
}

fn acceptor(signed: &Signed) -> TlsAcceptor {
    let certificates = vec![CertificateDer::from_pem_slice(signed.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(signed.key_pem.as_bytes()).unwrap();
    let mut config =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A server that says which protocol was agreed on.
async fn serve(signed: &Signed) -> u16 {
    let (listener, port) = listen().await;
    let acceptor = acceptor(signed);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if read_request(&mut stream).await.is_none() {
                continue;
            }
            let protocol = String::from_utf8(stream.get_ref().1.alpn_protocol().unwrap().to_vec()).unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{protocol}", protocol.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

fn trusting(pem: &str) -> Outbound {
    Outbound::with_roots(policy(&["127.0.0.1", "localhost"]), pem).unwrap()
}

#[tokio::test]
async fn a_certificate_of_nobody_known_is_refused() {
    for signed in [self_signed(), sign("127.0.0.1")] {
        let port = serve(&signed).await;
        let error = failure(&client(), &url("https", "127.0.0.1", port), LONG).await;
        assert_eq!(error.kind(), "tls");
        assert!(error.to_string().ends_with("from an issuer that is not known"), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_named_is_trusted() {
    let signed = sign("localhost");
    let port = serve(&signed).await;
    let client = trusting(&format!("{}{}", self_signed().certificate_pem, signed.authority_pem));
    let answer = send(&client, &url("https", "localhost", port), LONG).await.unwrap();
    assert_eq!(answer.body, "http/1.1");
    let error = failure(&client, &url("https", "127.0.0.1", port), LONG).await;
    assert!(error.to_string().ends_with("its certificate is for another name"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_not_trusted() {
    let (listener, port) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        read_to_end(&mut stream).await;
    });
    let error = failure(&client(), &url("https", "127.0.0.1", port), LONG).await;
    assert!(error.to_string().ends_with("it does not speak TLS at that port"), "{error}");
    let (listener, port) = listen().await;
    tokio::spawn(async move { drop(listener.accept().await) });
    assert_eq!(failure(&client(), &url("https", "127.0.0.1", port), LONG).await.kind(), "tls");
}

#[tokio::test]
async fn a_peer_that_reads_nothing_does_not_hold_up_the_end_of_tls() {
    let signed = sign("127.0.0.1");
    let (listener, port) = listen().await;
    let acceptor = acceptor(&signed);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _unread = acceptor.accept(stream).await.unwrap();
        std::future::pending::<()>().await;
    });
    let tls = roots::tls_connector(Some(&signed.authority_pem)).unwrap();
    let bounds = Bounds { max_connections: 1, ..BOUNDS };
    let client = Outbound::build(policy(&["127.0.0.1"]), tls, bounds);
    // No buffer holds so much.
    let (body, unread) = (Bytes::from(vec![b'x'; 32 << 20]), url("https", "127.0.0.1", port));
    assert_eq!(client.send(post(&unread, body), SHORT).await.unwrap_err().kind(), "deadline");
    let port = serve_bytes(OK).await;
    assert_eq!(send(&client, &url("http", "127.0.0.1", port), LONG).await.unwrap().body, "ok");
}

#[test]
fn what_holds_no_certificates_is_refused() {
    let roots = |pem: &str| Outbound::with_roots(policy(&[]), pem).map(|_| ()).unwrap_err();
    assert_eq!(roots(""), RootsProblem::Empty);
    assert_eq!(roots("not PEM"), RootsProblem::Empty);
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let end = "-----END CERTIFICATE-----\n";
    assert_eq!(roots(begin), RootsProblem::Unreadable);
    assert_eq!(roots(&format!("{begin}AAAA\n{end}")), RootsProblem::Unreadable);
    assert_eq!(roots(&format!("{begin}*\n{end}")), RootsProblem::Unreadable);
}
