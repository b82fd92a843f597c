use std::collections::BTreeMap;

use serde_json::json;
use tandem_api::{CallFacts, CallResult, CallWhy, SoundReport};
use tandem_proto::identity::{Address, Entropy, word_list};
use tandem_proto::ids::{AccountKey, DeviceKey};

use super::*;
use crate::bundle::tar;

const TOKEN: &str = "c0ffee11c0ffee22c0ffee33c0ffee44c0ffee55c0ffee66c0ffee77c0ffee88";
const LABEL: &str = "Kitchen wall telephone";

/// What must not be in a bundle, by what it is.
fn secrets() -> BTreeMap<&'static str, String> {
    let words = Entropy::new([5; 32]).words().to_string();
    let account = Entropy::new([5; 32]).account_secret().public().0;
    let device = Entropy::new([6; 32]).account_secret().public().0;
    let base32 = data_encoding::BASE32_NOPAD.encode(&device);
    BTreeMap::from([
        ("words in a line", words.as_str().to_owned()),
        ("words, one a line", words.replace(' ', "\n")),
        ("account address", Address(AccountKey(account)).to_string()),
        ("account hex", data_encoding::HEXLOWER.encode(&account)),
        ("device peer id", DeviceKey(device).to_string()),
        ("device hex", data_encoding::HEXUPPER.encode(&device)),
        ("device base32", base32.to_lowercase()),
        ("device BASE32", base32),
        // Bytes whose base64 is full of slashes and of signs plus.
        ("base64 with slashes", data_encoding::BASE64.encode(&[0xff, 0xf3, 0xfe, 0x07].repeat(8))),
        ("base64 without digits", "AbCdEf/GhIjKl/MnOpQr/StUvWx/YzAbCd/EfGhIj/KlM=".to_owned()),
        ("IPv4", "81.2.69.142".to_owned()),
        ("IPv6", "2001:470:1f0b:9::142".to_owned()),
        ("contact", "Wilhelmina Oyelaran".to_owned()),
        ("note", "met on the ferry".to_owned()),
        ("API token", TOKEN.to_owned()),
        ("device label", LABEL.to_owned()),
        ("bytes", format!("{account:?}")),
        ("bytes, one a line", format!("{device:#?}")),
        ("bytes in hexadecimal", format!("{device:02x?}")),
    ])
}

fn redactor() -> Redactor {
    let mut redactor = Redactor::new([9; 32], word_list().map(str::to_owned));
    redactor.know("Wilhelmina Oyelaran", "name");
    redactor.know("met on the ferry\nin the rain", "words");
    redactor.know(TOKEN, "secret");
    redactor.know_exactly(LABEL, "device");
    redactor
}

/// A folder with all secrets in its log, its report of a fault and its report of a call.
fn planted(data: &Path, secrets: &BTreeMap<&str, String>) {
    let lines: String = secrets
        .values()
        .map(|secret| {
            format!("2026-11-23T02:14:31Z  INFO tandem_node: about {secret} seen, id=\"{secret}\"\n")
        })
        .collect();
    for folder in [paths::LOGS, paths::CALLS] {
        fs::create_dir(data.join(folder)).unwrap();
    }
    fs::write(data.join(paths::LOGS).join("tandem.2026-11-23.log"), &lines).unwrap();
    fs::write(data.join(paths::LOGS).join("panic-1.txt"), &lines).unwrap();
    fs::write(data.join(paths::API_TOKEN), TOKEN).unwrap();
    let notes: Vec<String> = secrets.values().cloned().collect();
    let why = CallWhy { facts: CallFacts { notes, ..CallFacts::default() }, ..CallWhy::default() };
    let report = json!({
        "call": {
            "call": secrets["account hex"], "address": secrets["account address"], "name": secrets["contact"],
            "direction": "outgoing", "state": "ended", "started_unix_ms": 1, "answered_unix_ms": null,
            "ended_unix_ms": 2, "reason": null, "result": CallResult { answered_by: Some(LABEL.into()), ..CallResult::default() }, "mirroring": false,
            "relays_in_use": [secrets["device peer id"]], "path_changes": [],
        },
        "begin_unix_ms": 1, "step_ms": 100, "sent_dbfs": [], "heard_dbfs": [],
        "paths": [{ "path": secrets["device peer id"], "sent": [], "received": [] }],
        "sound": SoundReport::default(), "longest_gap_ms": 0.0, "longest_gap_at_unix_ms": 0,
        "recording": "/home/somebody/x.wav", "why": why,
    });
    fs::write(data.join(paths::CALLS).join("c.json"), report.to_string()).unwrap();
}

#[test]
fn no_planted_secret_is_in_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = secrets();
    planted(folder.path(), &secrets);
    let all: Vec<&String> = secrets.values().collect();
    let words: Vec<&str> = secrets["words in a line"].split(' ').collect();
    let settings =
        json!({ "settings": [{ "key": "bootstrap", "value": all }, { "key": "odd", "value": words }] });
    let sources = Sources {
        data: folder.path().to_owned(),
        call: None,
        answers: vec![("settings.json", "settings in force", settings)],
    };
    let parts = gather(&sources, &redactor());
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(
        names,
        ["about.txt", "settings.json", "calls/1.json", "logs/tandem.2026-11-23.log", "logs/panic-1.txt"]
    );
    let archive = String::from_utf8(tar(&parts, 1)).unwrap();
    assert!(archive.contains("INFO tandem_node: about"), "what a reader needs is there");
    for (what, secret) in &secrets {
        assert!(!archive.contains(secret.as_str()), "{what}: {secret}");
        // Nor a long piece of it: a key cut at a slash is still most of a key.
        let pieces: Vec<char> = secret.trim_start_matches("tandem:").chars().collect();
        for piece in pieces.windows(12).map(|piece| piece.iter().collect::<String>()) {
            assert!(!archive.contains(&piece), "{what}: {piece} of {secret}");
        }
    }
    for run in words.windows(5) {
        assert!(!archive.contains(&run.join(" ")) && !archive.contains(&run.join("\n")), "{run:?}");
    }
}
