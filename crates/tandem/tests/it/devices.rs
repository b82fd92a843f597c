//! Several devices of one person: `tandem devices` and `tandem id --restore`, as commands.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Node, json_lines, tandem};

/// Only ends a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tandem devices join`, waiting.
struct Joining {
    process: Child,
    lines: BufReader<ChildStdout>,
    folder: TempDir,
    offer: Value,
}

impl Joining {
    fn start(bootstrap: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = tandem()
            .args(["devices", "join", "--json", "--data"])
            .arg(folder.path().join("data"))
            .args(bootstrap)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let offer = next(&mut lines);
        Self { process, lines, folder, offer }
    }

    fn link(&self) -> &str {
        self.offer["link"].as_str().unwrap()
    }

    /// Who it belongs to now, and its folder.
    fn joined(mut self) -> (Value, TempDir) {
        let identity = next(&mut self.lines);
        assert!(self.process.wait().unwrap().success());
        (identity, self.folder)
    }
}

fn next(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// `tandem id --restore` with these words on standard input.
fn restore(data: &Path, words: &str, more: &[&str]) -> Output {
    let mut process = tandem()
        .args(["id", "--restore", "--data"])
        .arg(data)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(words.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

/// One JSON object that a command printed.
fn object(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json_lines(output).pop().unwrap()
}

/// A command failed, and said this code: on standard error, or with `--json` as an object.
fn refused(output: &Output, code: &str) {
    let said = [&output.stderr[..], &output.stdout].map(String::from_utf8_lossy).join("\n");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(code), "{code} is not in: {said}");
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn devices(node: &Node) -> Vec<Value> {
    object(&node.run(&["devices", "--json"]))["devices"].as_array().unwrap().clone()
}

fn labels(node: &Node) -> Vec<String> {
    let mut labels: Vec<String> =
        devices(node).iter().map(|device| device["label"].as_str().unwrap().to_owned()).collect();
    labels.sort();
    labels
}

#[test]
fn a_person_has_several_devices() {
    let first = Node::supernode(85, &[]);
    let listen = first.listen();
    let others: Vec<Node> = (86..=87).map(|network| Node::supernode(network, &listen)).collect();
    let bootstrap: Vec<&str> = listen.iter().flat_map(|address| ["--bootstrap", address]).collect();
    let person = [&bootstrap[..], &["--strangers", "ring"]].concat();
    let laptop = Node::up(88, &person);
    object(&laptop.run(&["devices", "rename", laptop.device(), "Laptop", "--json"]));

    let phone = joins_by_link(&laptop, &bootstrap);
    let desk = joins_by_words(&laptop, &bootstrap, &person);
    wrong_wishes_are_refused(&laptop, &phone);
    let bob = Node::up(91, &bootstrap);
    all_ring_and_one_answers(&bob, &laptop, &phone, &desk);

    let gone = object(&laptop.run(&["devices", "revoke", "Phone", "--json"]));
    assert_eq!(gone["key"], phone.device());
    until("the revoked device knows", || {
        let status = object(&phone.run(&["status", "--json"]));
        status["problems"].as_array()?.iter().any(|problem| problem["code"] == "T1707").then_some(())
    });
    refused(&phone.run(&["call", bob.address(), "--for", "1s"]), "T1707");
    assert_eq!(labels(&laptop), ["Desk", "Laptop"]);
    until("the other hears of it", || (devices(&desk).len() == 2).then_some(()));

    for node in others.into_iter().chain([laptop, phone, desk, bob, first]) {
        assert_eq!(node.terminate(), Some(0));
    }
}

fn joins_by_link(laptop: &Node, bootstrap: &[&str]) -> Node {
    let joining = Joining::start(bootstrap);
    let link = joining.link().to_owned();
    refused(&laptop.run(&["devices", "add", &link[..link.len() - 2]]), "T1703");
    refused(&laptop.run(&["devices", "add", laptop.address()]), "T1703");
    let output = laptop.run(&["devices", "add", &link, "--label", "Phone"]);
    let (said, shown) =
        (String::from_utf8_lossy(&output.stderr).into_owned(), String::from_utf8_lossy(&output.stdout));
    assert!(said.contains(joining.offer["words"].as_str().unwrap()), "{said}");
    assert!(shown.starts_with("Phone is a device of your account now."), "{shown} {said}");
    let offered = joining.offer["key"].clone();
    let (identity, folder) = joining.joined();
    assert_eq!(identity["address"], laptop.address());
    assert_eq!((&identity["device"], &identity["has_account_key"]), (&offered, &Value::Bool(false)));
    // A link is good once, and nobody waits behind an old one.
    refused(&laptop.run(&["devices", "add", &link, "--label", "Again"]), "T1704");
    let data = folder.path().join("data");
    let again = tandem().args(["devices", "join", "--data"]).arg(&data).args(bootstrap).output().unwrap();
    refused(&again, "T1107");
    // It remembers supernodes from the time it waited.
    let phone = Node::up_in(folder, 89, &["--strangers", "ring"]);
    assert_eq!(labels(laptop), ["Laptop", "Phone"]);
    phone
}

fn joins_by_words(laptop: &Node, bootstrap: &[&str], person: &[&str]) -> Node {
    let words = object(&laptop.run(&["id", "--words", "--json"]))["words"].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let more = [&["--label", "Desk", "--json"], bootstrap].concat();
    for wrong in ["abandon", &words.replacen(' ', " tandem ", 1), ""] {
        refused(&restore(&data, wrong, &more), "T1109");
    }
    let identity = object(&restore(&data, &words, &more));
    assert_eq!((&identity["address"], &identity["label"]), (&laptop.ready["address"], &"Desk".into()));
    assert_eq!((&identity["devices"], &identity["restoring"]), (&3.into(), &false.into()));
    refused(&restore(&data, &words, &more), "T1107");
    let desk = Node::up_in(folder, 90, person);
    assert_eq!(object(&desk.run(&["id", "--json"]))["label"], "Desk");
    // A device that was added by its words is named here once it got its name from here.
    let renamed = object(&laptop.run(&["devices", "rename", desk.device(), "Desk", "--json"]));
    assert_eq!(renamed["label"], "Desk");
    desk
}

fn wrong_wishes_are_refused(laptop: &Node, phone: &Node) {
    for (arguments, code) in [
        (&["devices", "revoke", "Fridge"][..], "T1701"),
        (&["devices", "rename", "Fridge", "Oven"], "T1701"),
        (&["devices", "rename", "Phone", ""], "T1711"),
        (&["devices", "revoke", "Laptop"], "T1708"),
    ] {
        refused(&laptop.run(arguments), code);
    }
    for arguments in [&["devices", "revoke", "Laptop"][..], &["devices", "rename", "Phone", "Mine"]] {
        refused(&phone.run(arguments), "T1110");
    }
    assert_eq!(devices(laptop).len(), 3);
}

fn all_ring_and_one_answers(bob: &Node, laptop: &Node, phone: &Node, desk: &Node) {
    until("all can be reached", || {
        devices(laptop).iter().all(|device| device["reachable"] == true).then_some(())
    });
    let mut call = tandem();
    call.args(["call", laptop.address(), "--for", "1s", "--json", "--data"]).arg(&bob.data);
    let call = call.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    for device in [laptop, phone, desk] {
        until("it rings", || {
            let calls = json_lines(&device.run(&["calls", "--json"])).pop()?;
            (calls[0]["state"] == "ringing").then_some(())
        });
    }
    assert!(phone.run(&["answer"]).status.success());
    let output = call.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", json_lines(&output));
    for device in [laptop, desk] {
        let calls = json_lines(&device.run(&["calls", "--json"])).pop().unwrap();
        assert_eq!(calls[0]["result"]["answered_by"], "Phone", "{calls}");
        assert_eq!(calls[0]["result"]["why"], "The call was answered on \"Phone\".");
    }
}
