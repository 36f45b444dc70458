use testkit::{PocketBase, Request};

#[test]
fn a_server_answers_dies_and_comes_back_on_its_folder() {
    if let Err(missing) = PocketBase::binary() {
        assert!(!testkit::is_ci(), "{missing}");
        println!("skipped: {missing}");
        return;
    }
    let mut server = PocketBase::start().unwrap();
    let client = server.client();
    let health = Request::new("GET", "/api/health");
    let first_pid = server.pid();
    assert_eq!(client.send(&health).unwrap().status, 200);

    server.kill().unwrap();
    assert!(client.send(&health).is_err());

    server.restart().unwrap();
    assert_ne!(server.pid(), first_pid);
    let answer = client.send(&health).unwrap();
    assert_eq!(answer.text(), r#"{"message":"API is healthy.","code":200,"data":{}}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(server.dir().join("data.db").is_file());
}
