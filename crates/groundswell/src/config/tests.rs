use std::ffi::OsString;
use std::time::Duration;

use super::*;

fn resolve(text: &str) -> Result<Settings, Problems> {
    let mut tree = Tree::default();
    tree.add_text("groundswell.toml", text)?;
    Settings::resolve(&tree)
}

fn check_problem(text: &str, expected: &str) {
    assert_eq!(resolve(text).unwrap_err().to_string(), expected);
}

fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    variables.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>().into_iter()
}

#[test]
fn no_file_at_all_is_a_fine_configuration() {
    let settings = resolve("").unwrap();
    assert_eq!(settings.server.http.socket.to_string(), "127.0.0.1:8090");
    assert_eq!(settings.server.public_dir, Path::new("gs_public"));
    assert_eq!(settings.server.origins, ["*"]);
    assert!(!settings.server.manage.is_explicit);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let text = "[server]\nhttp = \":0\"\norigins = [\"https://a\\\"b\"]\nquery_timeout = \"1500ms\"\n[log]\nlevel = \"warn,groundswell=debug\"";
    let printed = resolve(text).unwrap().to_string();
    assert_eq!(resolve(&printed).unwrap().to_string(), printed);
    assert!(printed.contains("query_timeout = \"1500ms\""), "{printed}");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_named() {
    check_problem(
        "[server]\n\nhtp = \"127.0.0.1:1\"",
        "groundswell.toml:3: server.htp: unknown key; did you mean server.http?",
    );
    check_problem("[sever]\n", "groundswell.toml:1: sever: unknown key; did you mean server?");
}

#[test]
fn all_problems_are_told_at_once() {
    check_problem(
        "[server]\nhttp = 8090\nroles = [\"edge\"]\n[store]\nsynchronous = \"OFF\"\nreaders = 0",
        "groundswell.toml:2: server.http: \"8090\" is not right; write HOST:PORT, such as 127.0.0.1:8090\n\
         groundswell.toml:3: server.roles: write [\"all\"], [\"gateway\"] or [\"services\"]\n\
         groundswell.toml:5: store.synchronous: \"OFF\" is not right; write FULL or NORMAL\n\
         groundswell.toml:6: store.readers: \"0\" is not right; write a whole number of at least 1",
    );
}

#[test]
fn a_refused_store_url_is_not_shown() {
    check_problem(
        "[store]\nurl = \"mysql://a:hunter2@b/c\"",
        "groundswell.toml:2: store.url: the kind \"mysql\" is not available; write \"sqlite:\" or \
         \"postgres://user:password@host:5432/database\"",
    );
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let problem = resolve("[server]\nhttp = \n").unwrap_err().to_string();
    assert!(problem.starts_with("groundswell.toml:2: "), "{problem}");
    check_problem(
        "server = 1",
        "groundswell.toml:1: server: must be a section; write [server] and its keys below",
    );
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let mut tree = Tree::default();
    tree.add_text("f", "[server]\nhttp = \"127.0.0.1:1\"\ndir = \"a\"\npublic_dir = \"p\"").unwrap();
    tree.add_environment(environment(&[
        ("GROUNDSWELL__SERVER__HTTP", "127.0.0.1:2"),
        ("GROUNDSWELL__SERVER__DIR", "b"),
        ("GROUNDSWELL__SERVER__QUERY_TIMEOUT", "5"),
        ("GROUNDSWELL_PORT", "tcp://10.0.0.1:80"),
    ]))
    .unwrap();
    tree.add_flag("--http", &["server", "http"], "127.0.0.1:3");
    let server = Settings::resolve(&tree).unwrap().server;
    assert_eq!(server.http.socket.port(), 3);
    assert_eq!(server.dir, Path::new("b"));
    assert_eq!(server.public_dir, Path::new("p"));
    assert_eq!(server.query_timeout, Duration::from_secs(5));
}

#[test]
fn problems_of_the_environment_name_the_variable() {
    let mut tree = Tree::default();
    tree.add_environment(environment(&[("GROUNDSWELL__SERVER__MANGE", "x")])).unwrap();
    assert_eq!(
        Settings::resolve(&tree).unwrap_err().to_string(),
        "environment variable GROUNDSWELL__SERVER__MANGE: server.mange: unknown key; did you mean server.manage?"
    );
}

#[test]
fn a_string_may_be_in_a_file_or_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "sqlite:\n").unwrap();
    resolve(&format!("[store]\nurl = {{ file = {file:?} }}")).unwrap();
    check_problem(
        "[store]\nurl = { env = \"GROUNDSWELL_TEST_NOT_SET\" }",
        "groundswell.toml:2: store.url: the environment variable GROUNDSWELL_TEST_NOT_SET is not set, or not UTF-8 text",
    );
    check_problem(
        "[store]\nurl = { fil = \"x\" }",
        "groundswell.toml:2: store.url: must be one value, or { file = \"PATH\" }, or { env = \"NAME\" }",
    );
}

#[test]
fn the_public_folder_is_beside_the_data_folder() {
    let settings = resolve("[server]\ndir = \"/srv/app/data\"").unwrap();
    assert_eq!(settings.server.public_dir, Path::new("/srv/app/gs_public"));
}

#[test]
fn certificates_and_the_address_for_https_belong_together() {
    let pair = "[[tls.certificates]]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    let text = format!(
        "[server]\nhttps = \":8443\"\n{pair}[tls]\nredirect_http = true\nredirect_port = 443\nhsts = \"max-age=1\""
    );
    let settings = resolve(&text).unwrap();
    assert_eq!(settings.server.https.unwrap().port(), 8443);
    assert_eq!(settings.tls.certificates[0].key, Path::new("a.key"));
    let printed = settings.to_string();
    assert_eq!(resolve(&printed).unwrap().to_string(), printed);
    assert!(printed.contains("redirect_port = 443"), "{printed}");
    check_problem(
        pair,
        "groundswell.toml:1: tls.certificates: nothing listens for HTTPS; write server.https = \"HOST:PORT\"",
    );
    check_problem(
        "[server]\nhttps = \":8443\"",
        "groundswell.toml:2: tls.certificates: is missing, and server.https needs one; \
         write [[tls.certificates]] with certificate and key, or [tls.acme]",
    );
    check_problem(
        "[server]\nhttps = \":8443\"\n[[tls.certificates]]\ncertificate = \"a.pem\"",
        "groundswell.toml:3: tls.certificates.key: is missing; write the path of a PEM file",
    );
}

#[test]
fn an_authority_needs_names_and_an_agreement() {
    let of = |acme: &str| format!("[server]\nhttps = \":8443\"\n[tls.acme]\n{acme}");
    let whole = "hosts = [\"App.example\"]\nterms_agreed = true\neab_kid = \"a\"\neab_key = \"c2VjcmV0\"";
    let settings = resolve(&of(whole)).unwrap();
    let acme = settings.tls.acme.as_ref().unwrap();
    assert_eq!(acme.hosts, ["app.example"]);
    assert_eq!(acme.directory.to_string(), "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(acme.binding.as_ref().unwrap().key, b"secret");
    assert!(!settings.to_string().contains("c2VjcmV0") && !format!("{settings:?}").contains("115, 101"));
    let problem = |acme: &str| resolve(&of(acme)).unwrap_err().to_string();
    assert!(problem("terms_agreed = true").contains("tls.acme.hosts: is missing"));
    assert!(problem("hosts = [\"a.example\"]").contains("tls.acme.terms_agreed: must be true"));
    for wrong in ["*.app.example", "10.0.0.1", "a..b", "a b", "-a.example", "app.example.", ""] {
        let told = problem(&format!("hosts = [\"{wrong}\"]\nterms_agreed = true"));
        assert!(told.contains("tls.acme.hosts: "), "{told}");
    }
    let plain = "hosts = [\"a.example\"]\nterms_agreed = true\ndirectory = \"http://ca.example/\"";
    assert!(problem(plain).contains("tls.acme.directory: "));
    let key = "hosts = [\"a.example\"]\nterms_agreed = true\neab_kid = \"a\"\neab_key = \"not base64\"";
    assert!(!problem(key).contains("not base64"), "a key is not shown");
}

#[test]
fn an_age_belongs_to_hsts() {
    let problem = resolve("[server]\nhttps = \":1\"\n[tls]\nhsts = \"preload\"").unwrap_err().to_string();
    assert!(problem.contains("tls.hsts: \"preload\" is not right; write a value"), "{problem}");
}

#[test]
fn lists_of_addresses_are_printed_as_they_can_be_read_again() {
    let text = "[server]\nproxy_protocol = [\"10.0.0.0/8\"]\ntrusted_proxies = \"::1,10.0.0.1\"\n\
                allow_ips = [\"0.0.0.0/0\"]\ndeny_ips = [\"192.0.2.0/24\"]\nmax_connections_per_ip = 100\n\
                [[gateway.routes]]\nservices = true\nallow_ips = [\"10.0.0.0/8\"]\ndeny_ips = [\"10.0.0.1\"]\n\
                rate_limit = { by = \"header:X-Api-Key\", requests = 5, per = \"1m\", burst = 10 }\nmax_in_flight = 5\nqueue = 3\n\
                [gateway.limits]\nrate_limit = { by = \"ip\", requests = 100 }\nmax_in_flight = \"adaptive\"";
    let printed = resolve(text).unwrap().to_string();
    assert_eq!(resolve(&printed).unwrap().to_string(), printed);
    assert!(printed.contains("trusted_proxies = [\"::1/128\", \"10.0.0.1/32\"]"), "{printed}");
    assert!(printed.contains("max_connections_per_ip = 100"), "{printed}");
    assert_eq!(printed.matches("allow_ips").count(), 2, "{printed}");
    let route = "rate_limit = { by = \"header:x-api-key\", requests = 5, per = \"60s\", burst = 10 }";
    let common = "[gateway.limits]\nmin_body_rate = 256\nrate_limit = { by = \"ip\", requests = 100, per = \"1s\", burst = 100 }";
    assert!(printed.contains(route) && printed.contains(common), "{printed}");
    let at_once = "max_in_flight = 5\nqueue = 3\nqueue_timeout = \"1s\"";
    assert!(printed.contains(at_once) && printed.contains("max_in_flight = \"adaptive\""), "{printed}");
    check_problem(
        "[gateway.limits]\nqueue = 3",
        "groundswell.toml:2: gateway.limits.queue: nobody waits without a bound; write max_in_flight, too",
    );
}

#[test]
fn a_rate_limit_is_whole_and_can_be_reckoned_with() {
    check_problem(
        "[gateway.limits]\nrate_limit = { requests = 5 }",
        "groundswell.toml:2: gateway.limits.rate_limit: needs both; \
         write { by = \"ip\", requests = 100, per = \"1s\" }",
    );
    check_problem(
        "[gateway.limits]\nrate_limit = { by = \"name\", requests = 5, burts = 1 }",
        "groundswell.toml:2: gateway.limits.rate_limit.by: \"name\" is not right; \
         write ip, caller, header:NAME or route\n\
         groundswell.toml:2: gateway.limits.rate_limit.burts: unknown key; \
         did you mean gateway.limits.rate_limit.burst?",
    );
    let problem = resolve("[gateway.limits]\nrate_limit = { by = \"ip\", requests = 1, per = \"9000h\" }");
    assert!(problem.unwrap_err().to_string().contains("more than a year"));
}
