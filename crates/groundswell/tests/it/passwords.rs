use crate::server::{Response, Server};

/// Who holds a token must not find out the password with it.
#[test]
fn guesses_at_the_old_password_are_throttled() {
    let server = Server::start(&[]);
    let records = "/api/collections/users/records";
    let user = r#"{"email":"a@b.co","password":"right-one-1","passwordConfirm":"right-one-1"}"#;
    let id = text_at(&send(&server, "POST", records, "", user), "id");
    let sign_in = r#"{"identity":"a@b.co","password":"right-one-1"}"#;
    let token =
        text_at(&send(&server, "POST", "/api/collections/users/auth-with-password", "", sign_in), "token");
    let path = format!("{records}/{id}");
    let change = |old: &str| {
        let body =
            format!(r#"{{"password":"other-one-2","passwordConfirm":"other-one-2","oldPassword":"{old}"}}"#);
        send(&server, "PATCH", &path, &token, &body)
    };
    for _ in 0..10 {
        assert_eq!(change("wrong").status, 400);
    }
    let refused = change("right-one-1");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 60);
}

fn send(server: &Server, method: &str, path: &str, token: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    server.send(format!("{head}{body}").as_bytes())
}

fn text_at(response: &Response, key: &str) -> String {
    let text = response.text();
    let start =
        text.find(&format!("\"{key}\":\"")).unwrap_or_else(|| panic!("{key} in {text}")) + key.len() + 4;
    text[start..].split('"').next().unwrap_or_default().to_owned()
}
