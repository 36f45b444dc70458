use std::fs;
use std::path::Path;

use crate::server::{Response, Server, request};

const FILE_NOT_FOUND: &str = r#"{"data":{},"message":"File not found.","status":404}"#;
const NOT_FOUND: &str = r#"{"data":{},"message":"The requested resource wasn't found.","status":404}"#;

fn check_security_headers(response: &Response) {
    for (name, value) in [
        ("x-xss-protection", "1; mode=block"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    assert!(response.header("vary").split(',').any(|value| value == "Origin"), "{}", response.head);
    assert!(!response.header("date").is_empty());
    assert!(response.header("server").is_empty());
}

fn public_folder(folder: &Path) {
    let public = folder.join("gs_public");
    fs::create_dir_all(public.join("dir")).unwrap();
    fs::create_dir_all(public.join("empty")).unwrap();
    for (path, content) in [
        ("dir/index.html", "<h1>dir</h1>".to_owned()),
        ("file.txt", "hello\n".to_owned()),
        ("sp ace.txt", "x".to_owned()),
        ("noext", "abc".to_owned()),
        ("large.txt", "many words ".repeat(1000)),
    ] {
        fs::write(public.join(path), content).unwrap();
    }
    fs::write(folder.join("secret.txt"), "not for anybody").unwrap();
}

fn with_index(folder: &Path) {
    public_folder(folder);
    fs::write(folder.join("gs_public/index.html"), "<h1>root</h1>").unwrap();
}

#[test]
fn health_is_the_contracts() {
    let server = Server::start(&[]);
    let response = server.get("/api/health");
    assert_eq!(response.status, 200);
    assert_eq!(response.text(), r#"{"message":"API is healthy.","code":200,"data":{}}"#);
    assert_eq!(response.header("content-type"), "application/json");
    check_security_headers(&response);
    let head = server.request("HEAD", "/api/health", &[]);
    assert_eq!((head.status, head.header("content-length").as_str()), (200, "50"));
    assert!(head.body.is_empty());
}

#[test]
fn what_no_route_wants_is_404_by_method() {
    let server = Server::start(&[]);
    for (method, path, body) in [
        ("GET", "/nope", FILE_NOT_FOUND),
        ("GET", "/api/health/", FILE_NOT_FOUND),
        ("HEAD", "/nope", ""),
        ("POST", "/nope", NOT_FOUND),
        ("PUT", "/api/health", NOT_FOUND),
        ("TRACE", "/api/health", NOT_FOUND),
    ] {
        let response = server.request(method, path, &[]);
        assert_eq!((response.status, response.text().as_str()), (404, body), "{method} {path}");
        check_security_headers(&response);
    }
}

#[test]
fn the_cleaner_path_is_redirected_to_before_anything_else() {
    let server = Server::start(&[]);
    let response = server.get("/a/../b?x=\"");
    assert_eq!((response.status, response.header("location").as_str()), (307, "/b?x=%22"));
    assert_eq!(response.text(), "<a href=\"/b?x=%22\">Temporary Redirect</a>.\n\n");
    assert_eq!(response.header("x-frame-options"), "");
    let response = server.request("POST", "/api//health", &[]);
    assert_eq!((response.status, response.header("location").as_str()), (307, "/api/health"));
    assert_eq!((response.text().as_str(), response.header("content-type").as_str()), ("", ""));
    assert_eq!(server.get("/a%zz").status, 400);
}

#[test]
fn any_origin_is_allowed_by_default() {
    let server = Server::start(&[]);
    let response = server.request("GET", "/api/health", &["Origin: http://a.b"]);
    assert_eq!(response.header("access-control-allow-origin"), "*");
    let response = server.request("OPTIONS", "/nope", &[]);
    assert_eq!((response.status, response.header("vary").as_str()), (204, "Origin"));
    assert_eq!(response.header("x-frame-options"), "");
    let response =
        server.request("OPTIONS", "/nope", &["Origin: http://a.b", "Access-Control-Request-Headers: X-A, b"]);
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-origin"), "*");
    assert_eq!(response.header("access-control-allow-methods"), "GET,HEAD,PUT,PATCH,POST,DELETE");
    assert_eq!(response.header("access-control-allow-headers"), "X-A, b");
    assert_eq!(
        response.header("vary"),
        "Origin,Access-Control-Request-Method,Access-Control-Request-Headers"
    );
    assert_eq!(response.header("access-control-max-age"), "");
}

#[test]
fn listed_origins_alone_are_echoed() {
    let server = Server::start(&["--origins", "https://*.example.com,http://c.de"]);
    for (origin, allowed) in [
        ("https://a.example.com", "https://a.example.com"),
        ("http://c.de", "http://c.de"),
        ("https://example.com", ""),
        ("null", ""),
    ] {
        let header = format!("Origin: {origin}");
        let response = server.request("GET", "/api/health", &[&header]);
        assert_eq!(
            (response.status, response.header("access-control-allow-origin").as_str()),
            (200, allowed)
        );
        let response = server.request("OPTIONS", "/api/health", &[&header]);
        assert_eq!(
            (response.status, response.header("access-control-allow-origin").as_str()),
            (204, allowed)
        );
        assert_eq!(response.header("access-control-allow-methods").is_empty(), allowed.is_empty());
    }
}

#[test]
fn files_have_one_spelling() {
    let server = Server::start_with(with_index, &[]);
    for (path, location) in [
        ("/index.html", "/"),
        ("/dir", "/dir/"),
        ("/dir?x=1", "/dir/"),
        ("/dir/index.html", "/dir/"),
        ("/dir%2findex.html", "/dir/"),
        ("/file.txt/", "/file.txt"),
        ("/index.html/", "/index.html"),
        ("/empty", "/empty/"),
    ] {
        let response = server.get(path);
        assert_eq!((response.status, response.header("location").as_str()), (301, location), "{path}");
        check_security_headers(&response);
    }
}

#[test]
fn files_are_served_as_the_real_server_does() {
    let server = Server::start_with(public_folder, &[]);
    for (path, content_type, body) in [
        ("/file.txt?x=1", "text/plain; charset=utf-8", "hello\n"),
        ("/dir/", "text/html; charset=utf-8", "<h1>dir</h1>"),
        ("/sp%20ace.txt", "text/plain; charset=utf-8", "x"),
        ("/noext", "text/plain; charset=utf-8", "abc"),
        ("/a/%2e%2e/file.txt", "text/plain; charset=utf-8", "hello\n"),
    ] {
        let response = server.get(path);
        assert_eq!((response.status, response.text().as_str()), (200, body), "{path}");
        assert_eq!(response.header("content-type"), content_type, "{path}");
        assert_eq!(response.header("accept-ranges"), "bytes");
        assert!(!response.header("last-modified").is_empty());
        check_security_headers(&response);
    }
    let head = server.request("HEAD", "/file.txt", &[]);
    assert_eq!((head.status, head.header("content-length").as_str(), head.body.len()), (200, "6", 0));
}

#[test]
fn parts_and_conditions_of_files_are_honoured() {
    let server = Server::start_with(public_folder, &[]);
    let part = server.request("GET", "/file.txt", &["Range: bytes=1-2"]);
    assert_eq!((part.status, part.text().as_str()), (206, "el"));
    assert_eq!(part.header("content-range"), "bytes 1-2/6");
    let beyond = server.request("GET", "/file.txt", &["Range: bytes=10-"]);
    assert_eq!((beyond.status, beyond.header("content-range").as_str()), (416, "bytes */6"));
    let modified = server.get("/file.txt").header("last-modified");
    let unchanged = server.request("GET", "/file.txt", &[&format!("If-Modified-Since: {modified}")]);
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

#[test]
fn no_path_leads_out_of_the_public_folder() {
    let server = Server::start_with(public_folder, &[]);
    for path in [
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/dir/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "/dir/..%2f..%2fsecret.txt",
        "/file.txt%00",
        "/%ff",
        "/empty/",
        "/%2fetc%2fpasswd",
    ] {
        let response = server.get(path);
        assert_eq!((response.status, response.text().as_str()), (404, FILE_NOT_FOUND), "{path}");
    }
}

#[test]
fn missing_paths_get_the_root_index_unless_told_otherwise() {
    let server = Server::start_with(with_index, &[]);
    for path in
        ["/", "/nope", "/api/nope", "/nope/", "/empty/", "/%2e%2e/x", "/file.txt/x", "/nope/index.html"]
    {
        let response = server.get(path);
        assert_eq!((response.status, response.text().as_str()), (200, "<h1>root</h1>"), "{path}");
    }
    assert_eq!(server.request("POST", "/nope", &[]).text(), NOT_FOUND);
    let server = Server::start_with(with_index, &["--indexFallback=false"]);
    assert_eq!(server.get("/").status, 200);
    assert_eq!(server.get("/nope").text(), FILE_NOT_FOUND);
}

#[test]
fn large_texts_are_compressed_for_those_who_ask() {
    let server = Server::start_with(public_folder, &[]);
    let plain = server.get("/large.txt");
    assert_eq!((plain.body.len(), plain.header("vary").as_str()), (11_000, "Origin"));
    for (accepted, encoding) in [("gzip", "gzip"), ("gzip, deflate, br", "br"), ("identity", "")] {
        let response = server.request("GET", "/large.txt", &[&format!("Accept-Encoding: {accepted}")]);
        assert_eq!(response.header("content-encoding"), encoding);
        assert_eq!(response.body.len() < 1000, !encoding.is_empty());
        check_security_headers(&response);
    }
    let small = server.request("GET", "/file.txt", &["Accept-Encoding: gzip"]);
    assert_eq!(small.header("content-encoding"), "");
}

#[test]
fn a_body_over_the_limit_is_refused_unread() {
    let server = Server::start(&[]);
    let response = server.send(&request("POST", "/nope", &["Content-Length: 33554433"]));
    assert_eq!(response.status, 413);
    assert_eq!(response.text(), r#"{"data":{},"message":"Request entity too large.","status":413}"#);
    check_security_headers(&response);
}

#[test]
fn every_answer_has_a_request_id_and_a_good_one_is_kept() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/api/health").header("x-request-id").len(), 16);
    let kept = server.request("GET", "/api/health", &["X-Request-Id: abc-123"]);
    assert_eq!(kept.header("x-request-id"), "abc-123");
    let replaced = server.request("GET", "/api/health", &["X-Request-Id: a b\"c"]);
    assert_eq!(replaced.header("x-request-id").len(), 16);
}
