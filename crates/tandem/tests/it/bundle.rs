//! Calls are made, then `tandem bundle`, as somebody would who reports a fault: nobody who was in them is in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Node, json_lines, speech};

const CONTACT: &str = "Wilhelmina Oyelaran";
const NOTE: &str = "met on the ferry to Ardglass";
const LABEL: &str = "Kitchen wall telephone";
/// Only ends a hang.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_bundle_names_nobody_and_still_tells_what_happened() {
    let first = Node::supernode(81, &[]);
    let bootstrap = first.listen();
    let second = Node::supernode(82, &bootstrap);
    let with_bootstrap: Vec<&str> = bootstrap.iter().flat_map(|address| ["--bootstrap", address]).collect();
    let bob = Node::up(83, &[&with_bootstrap[..], &["--answer", "echo"]].concat());
    // With what libp2p says: addresses and peer ids in every line.
    let log = ["--log", "tandem_node=trace,libp2p_swarm=debug,libp2p_relay=debug,info"];
    let alice = Node::up(84, &[&with_bootstrap[..], &log].concat());
    let secrets = live(&alice, &bob, &[&first, &second]);

    let folder = tempfile::tempdir().unwrap();
    let running = bundle(&alice, &folder.path().join("running"));
    succeeded(&alice.run(&["stop"]));
    // Whether a node runs or not, the same is replaced.
    let begun = Instant::now();
    let stopped = loop {
        if let Some(parts) = try_bundle(&alice, &folder.path().join("stopped")) {
            break parts;
        }
        assert!(begun.elapsed() < PATIENCE, "no bundle of a stopped node");
        std::thread::sleep(Duration::from_millis(200));
    };
    for parts in [&running, &stopped] {
        holds_none(parts, &secrets);
        tells_what_happened(parts);
    }
    assert!(running.contains_key("status.json") && running.contains_key("connections.json"));
}

/// Alice names her device, remembers Bob and calls him; what that leaves in her data folder must not be in a bundle.
fn live(alice: &Node, bob: &Node, supernodes: &[&Node]) -> BTreeMap<String, String> {
    let device = alice.ready["device"].as_str().unwrap_or_default().to_owned();
    let devices = json(&alice.run(&["devices", "--json"]));
    let key = devices["devices"][0]["key"].as_str().unwrap().to_owned();
    succeeded(&alice.run(&["devices", "rename", &key, LABEL]));
    succeeded(&alice.run(&["contacts", "add", CONTACT, bob.address(), "--note", NOTE]));
    let speech = speech();
    let output = alice.run(&["call", CONTACT, "--play", speech.to_str().unwrap(), "--for", "2s", "--json"]);
    let result = json_lines(&output).pop().unwrap();
    assert_eq!(result["connected"], true, "{result}");

    let identity = json(&alice.run(&["id", "--json"]));
    let words = json(&alice.run(&["id", "--words", "--json"]));
    let mut secrets = BTreeMap::from([
        ("contact".to_owned(), CONTACT.to_owned()),
        ("note".to_owned(), NOTE.to_owned()),
        ("label".to_owned(), LABEL.to_owned()),
        ("device".to_owned(), device),
        ("device's key".to_owned(), key),
        ("own address".to_owned(), alice.address().trim_start_matches("tandem:").to_owned()),
        ("their address".to_owned(), bob.address().trim_start_matches("tandem:").to_owned()),
        ("token".to_owned(), fs::read_to_string(alice.data.join("api-token")).unwrap().trim().to_owned()),
        ("folder".to_owned(), alice.data.display().to_string()),
    ]);
    collect(&identity, "identity", &mut secrets);
    collect(&words, "words", &mut secrets);
    for node in supernodes.iter().copied().chain([alice, bob]) {
        for address in node.listen() {
            let parts: Vec<&str> = address.split('/').collect();
            secrets.insert(format!("IP of {address}"), parts[2].to_owned());
            secrets.extend(parts.last().map(|peer| (format!("peer id of {address}"), (*peer).to_owned())));
        }
    }
    // Nothing short or empty, which would be found anywhere.
    secrets.retain(|_, secret| secret.len() >= 8);
    secrets
}

/// Texts of a JSON value that are long enough to be keys or words.
fn collect(value: &Value, name: &str, into: &mut BTreeMap<String, String>) {
    match value {
        Value::String(text) if text.len() >= 24 => {
            into.insert(name.to_owned(), text.trim_start_matches("tandem:").to_owned());
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| collect(value, &format!("{name}.{key}"), into));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, value)| collect(value, &format!("{name}[{n}]"), into));
        }
        _ => {}
    }
}

fn bundle(node: &Node, folder: &Path) -> BTreeMap<String, String> {
    try_bundle(node, folder).expect("a bundle")
}

/// Makes one and unpacks it; `None` while the node is still stopping.
fn try_bundle(node: &Node, folder: &Path) -> Option<BTreeMap<String, String>> {
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("b.tar");
    let output = node.run(&["bundle", "--out", &file.to_string_lossy(), "--json"]);
    output.status.success().then(|| unpack(&json(&output), &file, folder))
}

fn unpack(said: &serde_json::Value, file: &Path, folder: &Path) -> BTreeMap<String, String> {
    let unpacked = folder.join("unpacked");
    fs::create_dir_all(&unpacked).unwrap();
    let status = Command::new("tar").arg("-xf").arg(file).arg("-C").arg(&unpacked).status().unwrap();
    assert!(status.success());
    let names = said["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap());
    let mut parts: BTreeMap<String, String> =
        names.map(|name| (name.to_owned(), fs::read_to_string(unpacked.join(name)).unwrap())).collect();
    // Names of files and whatever else the archive holds.
    let archive = String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned();
    parts.insert("the archive".to_owned(), archive);
    parts
}

fn holds_none(parts: &BTreeMap<String, String>, secrets: &BTreeMap<String, String>) {
    for (name, text) in parts {
        let text = text.to_lowercase();
        for (what, secret) in secrets {
            let at = text.find(&secret.to_lowercase());
            assert!(at.is_none(), "{what} ({secret}) is in {name}: {}", around(&text, at));
        }
    }
}

fn around(text: &str, at: Option<usize>) -> String {
    let at = at.unwrap_or(0);
    let before: String = text[..at].chars().rev().take(80).collect();
    let before: String = before.chars().rev().collect();
    let behind: String = text[at..].chars().take(120).collect();
    format!("…{before}{behind}…")
}

fn tells_what_happened(parts: &BTreeMap<String, String>) {
    let report: Value = serde_json::from_str(&parts["calls/1.json"]).unwrap();
    assert_eq!(report["call"]["result"]["connected"], true);
    assert!(!report["sent_dbfs"].as_array().unwrap().is_empty(), "the series are figures still");
    let steps = report["why"]["facts"]["steps"].as_array().unwrap();
    let at =
        |step: &str| steps.iter().find(|known| known["step"] == step).map(|known| known["at_ms"].clone());
    let (path, sound) = (at("relayed_path"), at("sound"));
    assert!(path.as_ref().unwrap().as_u64() <= sound.as_ref().unwrap().as_u64(), "{steps:?}");
    let log = parts.iter().find(|(name, _)| name.starts_with("logs/tandem.")).expect("a log").1;
    assert!(log.contains("libp2p_swarm") && log.contains("key-"), "modules are named: {log}");
    assert!(parts["settings.json"].contains("\"key\": \"bootstrap\""));
    assert!(parts["network.json"].contains("kind") && parts["doctor.json"].contains("checks"));
}

fn json(output: &Output) -> Value {
    succeeded(output);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
