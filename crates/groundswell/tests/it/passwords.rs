use crate::server::Server;

/// Who holds a token must not find out the password with it.
#[test]
fn guesses_at_the_old_password_are_throttled() {
    let server = Server::start(&[]);
    let records = "/api/collections/users/records";
    let user = r#"{"email":"a@b.co","password":"right-one-1","passwordConfirm":"right-one-1"}"#;
    let id = server.send_json("POST", records, &[], user).value("id");
    let sign_in = r#"{"identity":"a@b.co","password":"right-one-1"}"#;
    let signed_in = server.send_json("POST", "/api/collections/users/auth-with-password", &[], sign_in);
    let token = format!("Authorization: {}", signed_in.value("token"));
    let path = format!("{records}/{id}");
    let change = |old: &str| {
        let body =
            format!(r#"{{"password":"other-one-2","passwordConfirm":"other-one-2","oldPassword":"{old}"}}"#);
        server.send_json("PATCH", &path, &[&token], &body)
    };
    for _ in 0..10 {
        assert_eq!(change("wrong").status, 400);
    }
    let refused = change("right-one-1");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 60);
}
