//! A private network by commands: made, asked, admitted, joined.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::world::tandem;

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn run(data: &Path, arguments: &[&str]) -> Value {
    json(&tandem().args(arguments).args(["--json", "--data"]).arg(data).output().unwrap())
}

#[test]
fn a_network_is_made_and_a_member_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (key_file, out, data) = (at("acme.key"), at("memberships.txt"), folder.path().join("data"));
    let create = ["network", "create", "acme", "--key-file", &key_file];
    let made = run(&data, &create);
    assert!(made["network_key"].as_str().unwrap().starts_with("tandem-network:"), "{made}");
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key_file).unwrap();
    assert_eq!(run(&data, &create)["error"]["code"], "T2104", "never written over");
    assert_eq!(std::fs::read(&key_file).unwrap(), before);
    assert_eq!(run(&data, &["network"])["error"]["code"], "T2105");
    assert!(!data.join("keys").exists(), "looking makes no account");

    let request = run(&data, &["network", "request"])["request"].as_str().unwrap().to_owned();
    let settings = format!("network = \"acme\"\nnetwork_key = {}\n", made["network_key"]);
    std::fs::write(data.join("tandem.toml"), settings).unwrap();
    let shown = run(&data, &["network"]);
    assert!(shown["device"].is_null(), "{shown}");

    let admit = |request: &str, network: &str| {
        let more = ["--key-file", &key_file, "--for", "1d", "--label", "Reception", "--out", &out];
        run(&data, &[&["network", "admit", request, "--network", network][..], &more].concat())
    };
    assert_eq!(admit("tandem-member:aaaa", "acme")["error"]["code"], "T2103");
    assert_eq!(admit(&request, "acme")["memberships"].as_array().unwrap().len(), 2);
    let shown = run(&data, &["network", "join", &out]);
    for key in ["device", "service"] {
        assert_eq!(
            (&shown[key]["holds"], &shown[key]["label"]),
            (&true.into(), &"Reception".into()),
            "{shown}"
        );
    }

    // A stranger's file is of no use here; nor is a membership of another network.
    let other = folder.path().join("other");
    assert_eq!(run(&other, &["network", "join", &out])["error"]["code"], "T2104");
    std::fs::remove_file(&out).unwrap();
    admit(&request, "another");
    let shown = run(&data, &["network", "join", &out]);
    assert_eq!(shown["device"]["holds"], false, "{shown}");
    assert!(shown["device"]["why_not"].as_str().unwrap().contains("another network"), "{shown}");

    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(admit(&request, "acme")["error"]["code"], "T2104", "a key that others can read");
}
