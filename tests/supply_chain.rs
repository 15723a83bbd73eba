//! What is built from and run as: pinned, checked, and confined.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Whether an image is named with a tag for people and a digest for the machine.
fn is_pinned(image: &str) -> bool {
    let Some((name, digest)) = image.split_once("@sha256:") else { return false };
    name.contains(':') && digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn images_are_pinned_by_digest_and_nothing_in_them_runs_as_root() {
    let dockerfile = text("Dockerfile");
    let last = |word: &str| {
        let found = dockerfile.lines().filter_map(|line| line.strip_prefix(word));
        found.map(str::trim).collect::<Vec<_>>()
    };
    let bases = last("FROM ");
    assert_eq!(bases.len(), 2);
    for base in bases {
        assert!(is_pinned(base.split_whitespace().next().unwrap()), "{base}");
    }
    assert_eq!(last("USER "), ["10001:10001"]);
    assert!(
        !is_pinned("debian:bookworm-slim")
            && !is_pinned("debian@sha256:00")
            && is_pinned(&format!("a:1@sha256:{:064}", 0))
    );
}

#[test]
fn services_of_the_compose_file_are_confined() {
    let compose: Value = serde_yaml_ng::from_str(&text("docker-compose.yml")).unwrap();
    // serde_yaml_ng leaves merge keys to its caller.
    let common = compose["x-confined"].as_object().unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 3);
    for (name, service) in services {
        let merged =
            |key: &str| if service[key].is_null() { common.get(key).cloned() } else { Some(service[key].clone()) };
        assert_eq!(service["<<"].as_object(), Some(common), "{name}");
        assert_eq!(merged("cap_drop"), Some(json!(["ALL"])), "{name}");
        assert_eq!(merged("security_opt"), Some(json!(["no-new-privileges:true"])), "{name}");
        assert_eq!(merged("read_only"), Some(json!(true)), "{name}");
        assert!(service["tmpfs"].as_array().unwrap().contains(&json!("/tmp")), "{name}");
        for gained in ["privileged", "cap_add", "devices", "network_mode", "pid"] {
            assert!(service[gained].is_null(), "{name} {gained}");
        }
        match service["image"].as_str() {
            Some(image) => {
                assert!(is_pinned(image), "{image}");
                assert!(service["user"].as_str().is_some_and(|user| !user.starts_with('0')), "{name} runs as root");
            }
            None => assert!(service["build"].is_object(), "{name}"),
        }
    }
}

#[test]
fn known_vulnerabilities_are_looked_up_in_a_pinned_copy() {
    let deny = text("deny.toml");
    for line in ["[advisories]", "yanked = \"deny\"", "db-path = \".deps/advisory-dbs\"", "ignore = []"] {
        assert!(deny.lines().any(|found| found == line), "{line}");
    }
    let pin = text("scripts/pins/advisory-db.txt");
    let pins: Vec<&str> = pin.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(pins.len(), 1);
    assert!(pins[0].len() == 40 && pins[0].bytes().all(|b| b.is_ascii_hexdigit()), "{}", pins[0]);
    let makefile = text("Makefile");
    assert!(makefile.contains("$(DEPS)/advisory-dbs/") && makefile.contains("cargo deny --offline check\n"));
}
