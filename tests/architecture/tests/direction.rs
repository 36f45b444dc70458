//! Reads `cargo metadata` and fails on an edge that ARCHITECTURE.md does not allow.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// What a crate of ours may depend on among ours, dev-dependencies aside. A crate that is not listed
/// fails the test: say where it stands.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("model", &[]),
    ("contract", &["model"]),
    ("store", &["contract", "model"]),
    ("blobs", &["contract", "model"]),
    ("broker", &["contract", "model"]),
    ("identity", &["contract", "model"]),
    ("kit", &["identity", "contract", "model"]),
    ("auth", &["kit", "identity", "contract", "model"]),
    ("records", &["kit", "identity", "contract", "model"]),
    ("files", &["kit", "identity", "contract", "model"]),
    ("jobs", &["kit", "identity", "contract", "model"]),
    ("hooks", &["kit", "identity", "contract", "model"]),
    ("realtime", &["kit", "identity", "contract", "model"]),
    ("admin", &["kit", "identity", "contract", "model"]),
    ("gateway", &["kit", "identity", "contract", "model"]),
    (
        "groundswell",
        &[
            "gateway", "auth", "records", "files", "hooks", "jobs", "realtime", "admin", "kit", "identity",
            "store", "blobs", "broker", "contract", "model",
        ],
    ),
    ("testkit", &["contract", "model"]),
    ("architecture", &[]),
];

/// Whole-system tests and loads: they run the binary, and may use the test kit.
const TEST_CRATES: [&str; 4] = ["conformance", "bench", "crash", "testkit"];

#[test]
fn every_edge_between_our_crates_points_down() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let graph = our_edges();
    for (name, dependencies) in &graph {
        for dependency in dependencies {
            let is_allowed = match allowed.get(name.as_str()) {
                Some(list) => list.contains(&dependency.as_str()),
                None => TEST_CRATES.contains(&name.as_str()) && TEST_CRATES.contains(&dependency.as_str()),
            };
            assert!(is_allowed, "{name} must not depend on {dependency} (see ARCHITECTURE.md)");
        }
        let is_known = allowed.contains_key(name.as_str()) || TEST_CRATES.contains(&name.as_str());
        assert!(is_known, "{name} is not in this test's list: say what it may depend on");
    }
    assert!(graph.contains_key("model"));
}

/// Our crates with what they depend on among ours, without dev-dependencies.
fn our_edges() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (text(&package["name"]), path_dependencies(package))).collect()
}

fn path_dependencies(package: &Value) -> Vec<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    dependencies
        .filter(|dependency| dependency["path"].is_string() && dependency["kind"] != "dev")
        .map(|dependency| text(&dependency["name"]))
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
