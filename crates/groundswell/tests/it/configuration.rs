use std::fs;

use crate::server::{groundswell, run};

#[test]
fn a_wrong_file_ends_the_start_with_code_2_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("g.toml"), "[server]\nhtp = \"127.0.0.1:0\"\nindex_fallback = \"yes\"\n")
        .unwrap();
    let output = run(folder.path(), &["serve", "--config", "g.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "g.toml:3: server.index_fallback: \"yes\" is not right; write true or false\n\
         g.toml:2: server.htp: unknown key; did you mean server.http?\n"
    );
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["check", "--config", "nowhere.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("the configuration file nowhere.toml cannot be read"), "{complaint}");
}

#[test]
fn the_environment_is_read_and_secrets_are_masked() {
    let output = groundswell(&["--print-config"])
        .env("GROUNDSWELL__STORE__URL", "sqlite:x?key=hunter2")
        .env("GROUNDSWELL__SERVER__ORIGINS", "http://a, http://b")
        .env("GROUNDSWELL_PORT", "tcp://10.0.0.1:8090")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("url = \"sqlite:x?key=***\""), "{printed}");
    assert!(printed.contains("origins = [\"http://a\", \"http://b\"]"), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}
