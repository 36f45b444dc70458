//! What routes accept, and the rules of `[gateway]`: what is refused, and what is told of it.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::server::{Response, Server, read_response, request, run};
use crate::upstreams::{read_head, reply, upstream};

/// A server with this configuration.
fn server(config: &str) -> Server {
    let config = config.to_owned();
    Server::start_with(
        move |folder| std::fs::write(folder.join("g.toml"), config).unwrap(),
        &["--config", "g.toml"],
    )
}

/// A server that counts the bytes that it gets, and answers when a body has ended.
fn counting() -> (String, Arc<AtomicUsize>) {
    let got = Arc::<AtomicUsize>::default();
    let counted = got.clone();
    let address = upstream(move |stream| {
        while let Some(head) = read_head(stream) {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut body = Vec::new();
            while head.iter().any(|line| line.to_lowercase().contains("chunked"))
                && !body.ends_with(b"0\r\n\r\n")
            {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                body.push(byte[0]);
            }
            if !reply(stream, 200, "ok") {
                return;
            }
        }
    });
    (address, got)
}

fn in_chunks(server: &Server, target: &str, pieces: usize) -> Response {
    let mut stream = server.connect();
    let headers = ["Transfer-Encoding: chunked", "Content-Type: application/json"];
    stream.write_all(&request("POST", target, &headers)).unwrap();
    for _ in 0..pieces {
        // It may be refused before all is sent.
        let _ = stream.write_all(&[b"400\r\n".to_vec(), vec![b' '; 1024], b"\r\n".to_vec()].concat());
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    read_response(&mut stream)
}

#[test]
fn a_route_takes_its_methods_types_and_sizes_alone() {
    let (address, got) = counting();
    let server = server(&format!(
        "[gateway.upstreams.pool]\nservers = [\"http://{address}\"]\n[[gateway.routes]]\npath = \"/shop/\"\nupstream = \"pool\"\n\
         allow_methods = [\"GET\", \"POST\"]\ncontent_types = [\"application/json\"]\nmax_body = \"4KiB\"\nmax_target = 40\n"
    ));
    let refused = server.request("DELETE", "/shop/x", &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, POST, HEAD".to_owned()));
    assert!(refused.text().starts_with("{\"data\":{},\"message\":"), "{}", refused.text());
    for (headers, status) in [
        (["Content-Type: text/html", "Content-Length: 2"], 415),
        (["X: y", "Content-Length: 2"], 415),
        (["Content-Type: application/json", "Content-Length: 4097"], 413),
    ] {
        assert_eq!(server.request("POST", "/shop/x", &headers).status, status, "{headers:?}");
    }
    let long = format!("/shop/{}", "x".repeat(35));
    assert_eq!(server.request("GET", &long, &[]).status, 414);
    assert_eq!(got.load(Ordering::SeqCst), 0, "none of it reached the server");
    assert_eq!(server.get("/shop/x").status, 200);
    assert_eq!(server.request("TRACE", "/shop/x", &[]).status, 405);
    assert_eq!(in_chunks(&server, "/shop/x", 4).status, 200);
    got.store(0, Ordering::SeqCst);
    assert_eq!(in_chunks(&server, "/shop/x", 1000).status, 413);
    assert!(got.load(Ordering::SeqCst) < 6 << 10, "{} bytes were passed on", got.load(Ordering::SeqCst));
    assert_eq!(server.get("/shop/x").status, 200);
}

#[test]
fn a_route_to_the_services_may_bound_them() {
    let server = server(
        "[[gateway.routes]]\npath = \"/api/collections/\"\nservices = true\nmax_body = \"2KiB\"\n\
         [[gateway.routes]]\npath = \"/api/health\"\nservices = true\nallow_methods = [\"HEAD\"]\n",
    );
    let target = "/api/collections/users/auth-with-password";
    assert_eq!(in_chunks(&server, target, 2).status, 400, "the body is taken, and has nothing in it");
    assert_eq!(in_chunks(&server, target, 3).status, 413);
    let refused = server.request("POST", target, &["Content-Length: 2049"]);
    assert_eq!(refused.status, 413);
    assert_eq!(server.get("/api/health").status, 405);
    assert_eq!(server.request("HEAD", "/api/health", &[]).status, 200);
    assert_eq!(in_chunks(&server, "/api/batch", 3).status, 403, "what has no route has no bound of its own");
}

#[test]
fn what_a_route_cannot_accept_is_a_wrong_configuration() {
    for (line, complaint) in [
        ("allow_methods = [\"get\"]", "\"get\" is not right; write methods such as GET"),
        ("allow_methods = []", "must name one"),
        ("content_types = [\"json\"]", "\"json\" is not right; write types such as application/json"),
        ("max_body = \"1MB\"", "write a number of bytes such as 64KiB"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = format!("[[gateway.routes]]\npath = \"/\"\nservices = true\n{line}\n");
        std::fs::write(folder.path().join("g.toml"), config).unwrap();
        let output = run(folder.path(), &["check", "--config", "g.toml"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
}
