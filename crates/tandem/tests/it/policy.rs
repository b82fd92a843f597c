//! An organisation's policy with the real binary. The path of the policy is part of the program and only root can write
//! there, so each command runs in a mount namespace whose `/etc` is the test's.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The program in a namespace where `/etc/tandem/policy.toml` is this file, with this mode and owner.
pub(crate) fn under(policy: &str, (mode, owner): (&str, u32), arguments: &[&str]) -> Command {
    let script = "mount -t tmpfs -o mode=755 tmpfs /etc && mkdir /etc/tandem && printf %s \"$POLICY\" > /etc/tandem/policy.toml \
                  && chmod \"$MODE\" /etc/tandem/policy.toml && chown \"$OWNER\" /etc/tandem/policy.toml && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_tandem")])
        .args(arguments)
        .env("POLICY", policy)
        .env("MODE", mode)
        .env("OWNER", owner.to_string())
        .env_remove("TANDEM_DATA")
        .stdin(Stdio::null());
    command
}

const ROOTS: (&str, u32) = ("644", 0);

fn run(policy: &str, file: (&str, u32), arguments: &[&str]) -> (Output, Value) {
    let output = under(policy, file, arguments).output().unwrap();
    let line = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    let value = serde_json::from_str(&line)
        .unwrap_or_else(|error| panic!("{error}: {line} {}", String::from_utf8_lossy(&output.stderr)));
    (output, value)
}

/// A data folder that argues against the policy in the file, and arguments that do so in flags.
fn disobedient() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let settings =
        "relay_only = false\nstrangers = \"ring\"\nnetwork = \"theirs\"\n[volunteer]\nroles = [\"relay\"]\n";
    std::fs::write(data.join("tandem.toml"), settings).unwrap();
    let data = data.display().to_string();
    (folder, data)
}

#[test]
fn no_file_flag_or_variable_changes_what_the_policy_holds() {
    let (_folder, data) = disobedient();
    let policy = "[calls]\nrelay_only = true\nstrangers = \"requests\"\n[serving]\nroles = []\n[network]\nid = \"ours\"\n";
    let mut command = under(policy, ROOTS, &["config", "show", "--json", "--data", &data]);
    command
        .env("TANDEM_RELAY_ONLY", "false")
        .env("TANDEM_NETWORK", "theirs")
        .env("TANDEM_VOLUNTEER", "relay");
    let output = command.output().unwrap();
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (key, value, bound) in [
        ("relay_only", Value::Bool(true), "calls.relay_only"),
        ("strangers", "requests".into(), "calls.strangers"),
        ("network", "ours".into(), "network.id"),
        ("volunteer.roles", Value::Array(Vec::new()), "serving.roles"),
    ] {
        let entry = view["settings"].as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap();
        assert_eq!(entry["value"], value, "{key}");
        assert_eq!(entry["origin"], "policy", "{key}");
        assert_eq!(entry["policy"], bound, "{key}");
    }
}

#[test]
fn a_policy_that_cannot_be_followed_lets_nothing_start() {
    let (_folder, data) = disobedient();
    let good = "[calls]\nrelay_only = true\n";
    for (policy, file, code) in [
        (good, ("666", 0), "T2002"),
        (good, ("664", 0), "T2002"),
        (good, ("644", 1000), "T2002"),
        ("[calls]\nrelay_onyl = true\n", ROOTS, "T2003"),
        ("[calls\n", ROOTS, "T2003"),
    ] {
        for arguments in [
            &["up", "--json", "--data", &data][..],
            &["config", "show", "--json", "--data", &data],
            &["policy", "show", "--json"],
            &["policy", "check", "--json"],
            &["relay", "--json", "--listen", "127.69.0.1:9", "--rest-secret", "s"],
        ] {
            let (output, answer) = run(policy, file, arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            assert_eq!(answer["error"]["code"], code, "{arguments:?}: {answer}");
        }
        assert!(!std::path::Path::new(&data).join("store.db").exists(), "nothing was begun");
    }
    let (_, report) = run("[calls\n", ROOTS, &["doctor", "--json", "--data", &data]);
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "policy").unwrap();
    assert_eq!(check["state"], "fail", "{report}");
}

#[test]
fn what_the_ports_do_not_allow_is_not_bound() {
    let (_folder, data) = disobedient();
    let policy = "[ports]\nlocal = \"50000-50100\"\n[serving]\nroles = [\"directory\"]\n";
    let up = ["up", "--json", "--data", &data, "--listen", "127.69.0.1:49999"];
    let (_, answer) = run(policy, ROOTS, &up);
    assert_eq!(answer["error"]["code"], "T2004", "{answer}");
    let relay = ["relay", "--json", "--listen", "127.69.0.1:50001", "--rest-secret", "s"];
    let (_, answer) = run(policy, ROOTS, &relay);
    assert_eq!(answer["error"]["code"], "T2004", "{answer}");
}

#[test]
fn a_draft_is_explained_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let draft = folder.path().join("draft.toml");

    let draft = draft.display().to_string();
    let check = || crate::world::tandem().args(["policy", "check", &draft, "--json"]).output().unwrap();
    std::fs::write(&draft, "[serving]\nroles = []\n").unwrap();
    let answer: Value = serde_json::from_slice(&check().stdout).unwrap();
    assert_eq!(answer["policy"]["rules"][0]["key"], "serving.roles", "{answer}");
    assert!(answer["untrusted"].is_string(), "a node would not take it from there: {answer}");
    std::fs::write(&draft, "[serving]\n\nrole = []\n").unwrap();
    let answer: Value = serde_json::from_slice(&check().stdout).unwrap();
    assert_eq!(answer["error"]["code"], "T2003", "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("line 3"), "{message}");
    assert!(answer["error"]["action"].as_str().unwrap().contains("serving.roles"), "{answer}");
}
