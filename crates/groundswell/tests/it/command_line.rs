use std::net::TcpListener;

use crate::server::{Server, run};

fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
    assert!(out.contains(stdout), "{arguments:?}: {out}");
    assert!(err.contains(stderr), "{arguments:?}: {err}");
    assert!(!folder.path().join("gs_data").exists(), "{arguments:?} left a data folder");
}

#[test]
fn answers_and_codes_are_the_real_ones() {
    check(&[], 0, "Usage: groundswell", "");
    check(&["--help"], 0, "superuser", "");
    check(&["--version"], 0, "groundswell version ", "");
    check(&["frob"], 1, "", "unknown command \"frob\" for \"groundswell\"");
    check(&["serve", "--frob"], 1, "", "unexpected argument '--frob'");
    check(&["superuser"], 0, "upsert", "");
    check(&["superuser", "upsert", "a@b.c"], 1, "", "missing email and password arguments");
    check(&["superuser", "upsert", "a", "b"], 1, "", "missing or invalid email address");
}

#[test]
fn real_flag_names_and_kebab_case_are_the_same() {
    for flags in [
        ["--publicDir", "p", "--queryTimeout", "7", "--indexFallback=false"],
        ["--public-dir", "p", "--query-timeout", "7", "--index-fallback=false"],
    ] {
        let arguments = [&["serve", "--print-config"], flags.as_slice()].concat();
        let lines = "public_dir = \"p\"\nindex_fallback = false\n";
        check(&arguments, 0, lines, "");
        check(&arguments, 0, "query_timeout = \"7s\"", "");
    }
    check(&["--print-config", "--dir", "/x/y"], 0, "public_dir = \"/x/gs_public\"", "");
    check(&["serve", "--indexFallback", "--print-config"], 0, "index_fallback = true", "");
    check(
        &["serve", "--origins", "http://a,http://b", "--print-config"],
        0,
        "[\"http://a\", \"http://b\"]",
        "",
    );
}

#[test]
fn the_banner_says_where_everything_is() {
    let server = Server::start(&[]);
    let address = &server.address;
    let mut lines = server.banner.lines();
    let first = lines.next().unwrap();
    assert!(first.ends_with(&format!("Server started at http://{address}")), "{first}");
    assert_eq!(lines.next().unwrap(), format!("├─ REST API:   http://{address}/api/"));
    assert!(server.banner.contains("Data:       gs_data"), "{}", server.banner);
    assert!(server.folder().join("gs_data").is_dir());
}

#[test]
fn the_first_superuser_is_made_by_a_command_with_or_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let run = |arguments: &[&str]| run(folder.path(), &[arguments, &["--dir", data]].concat());
    let server = Server::start(&["--dir", data]);
    let upsert = run(&["superuser", "upsert", "a@b.c", "1234567890"]);
    assert_eq!(String::from_utf8_lossy(&upsert.stdout), "Successfully saved superuser \"a@b.c\"!\n");
    server.terminate();
    let (code, rest) = server.wait();
    assert_eq!(code, Some(0));
    assert!(rest.contains("There is no superuser yet"), "{rest}");
    let command =
        format!("running: {} superuser upsert EMAIL PASS --dir {data}", env!("CARGO_BIN_EXE_groundswell"));
    assert!(rest.contains(&command), "{rest}");
    let create = run(&["superuser", "create", "a@b.c", "1234567890"]);
    assert_eq!(create.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&create.stderr);
    let expected = "failed to create new superuser account: email: Value must be unique.\n";
    assert!(complaint.ends_with(expected), "{complaint}");
    let delete = run(&["superuser", "delete", "x@b.c"]);
    assert_eq!(delete.status.code(), Some(0));
    let answer = String::from_utf8_lossy(&delete.stdout);
    assert_eq!(answer, "superuser \"x@b.c\" is missing or already deleted\n");
}

#[test]
fn a_port_in_use_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = format!("listen on {address}");
    let folder = tempfile::tempdir().unwrap();
    let free = ["--http", "127.0.0.1:0"];
    for arguments in
        [["serve", "--http", &address].as_slice(), &["serve", "--manage", &address, free[0], free[1]]]
    {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(&message) && complaint.contains("in use"), "{complaint}");
        assert!(output.stdout.is_empty(), "nothing is announced");
    }
}

#[test]
fn check_looks_at_folder_and_ports_and_changes_nothing() {
    let server = Server::start(&[]);
    check(&["check", "--http", &server.address], 1, "configuration: ok", "http port: ");
    check(&["check", "--http", "127.0.0.1:0"], 0, "gs_data does not exist; serve creates it", "");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gs_data")).unwrap();
    std::fs::write(folder.path().join("gs_data/data.db"), "something else, and quite long").unwrap();
    let output = run(folder.path(), &["check", "--http", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a database"));
}

#[test]
fn check_tells_the_format_and_who_holds_the_folder() {
    let server = Server::start(&[]);
    let folder = server.folder();
    let check = |address: &str| run(&folder, &["check", "--http", address]);
    let held = check("127.0.0.1:0");
    let complaint = String::from_utf8_lossy(&held.stderr);
    assert!(complaint.contains("with data of format 4, is in use by another server"), "{complaint}");
    assert_eq!(server.get("/api/health").status, 200);

    let alone = tempfile::tempdir().unwrap();
    assert!(run(alone.path(), &["superuser", "create", "a@b.c", "1234567890"]).status.success());
    let output = run(alone.path(), &["check", "--http", "127.0.0.1:0"]);
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("gs_data is writable, with data of format 4"), "{report}");
    assert_eq!(output.status.code(), Some(0));
}
