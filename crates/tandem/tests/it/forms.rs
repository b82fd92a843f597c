//! The forms that scripts rely on.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::world::{Node, free_port, json_lines, speech, tandem};

#[test]
fn two_people_call_through_volunteers_and_everybody_leaves_in_good_order() {
    let first = Node::supernode(61, &[]);
    let bootstrap = first.listen();
    assert!(
        bootstrap.iter().all(|address| address.starts_with("/ip4/127.61.0.1/") && address.contains("/p2p/"))
    );
    let others: Vec<Node> = (62..=64).map(|network| Node::supernode(network, &bootstrap)).collect();
    let with_bootstrap: Vec<&str> = bootstrap.iter().flat_map(|address| ["--bootstrap", address]).collect();
    let bob = Node::up(65, &[&with_bootstrap[..], &["--answer", "echo"]].concat());
    assert_eq!(bob.ready["ready"], true);
    assert!(!bob.ready["homes"].as_array().unwrap().is_empty());
    let alice = Node::up(66, &with_bootstrap);

    let result = call_through_the_running_node(&alice, bob.address());
    assert_eq!(result["packets"]["lost"], 0, "{result}");
    echo_comes_back(&alice);
    connections_are_explained(&alice);
    call_with_a_node_of_its_own(&bootstrap, bob.address());

    for person in [alice, bob] {
        assert_eq!(person.terminate(), Some(0));
    }
    for supernode in others.into_iter().chain([first]) {
        assert_eq!(supernode.terminate(), Some(0));
    }
}

fn call_through_the_running_node(alice: &Node, address: &str) -> Value {
    let record = alice.data.join("heard.wav");
    let output = alice.run(&[
        "call",
        address,
        "--play",
        speech().to_str().unwrap(),
        "--record",
        record.to_str().unwrap(),
        "--for",
        "3s",
        "--redundancy",
        "always",
        "--relay-only",
        "--json",
    ]);
    let lines = json_lines(&output);
    let (result, events) = lines.split_last().expect("a result line");
    assert!(output.status.success(), "{result}");
    let steps: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    let order = ["looking_up", "found", "ringing", "answered", "connected", "ended"];
    let told: Vec<&&str> = steps.iter().filter(|step| order.contains(step)).collect();
    assert_eq!(told, order.iter().collect::<Vec<_>>());
    assert_eq!(result["connected"], true);
    assert_eq!(result["path"], "relayed");
    assert!(result["relays"].as_array().unwrap().len() >= 2, "{result}");
    for time in ["lookup", "ringing", "media"] {
        assert!(result["setup_ms"][time].is_u64(), "{result}");
    }
    for figure in ["longest_gap_ms", "concealed_ms"] {
        assert!(result[figure].is_u64(), "{result}");
    }
    assert!(record.metadata().unwrap().len() > 100_000);
    result.clone()
}

fn echo_comes_back(alice: &Node) {
    let output = alice.run(&["echo", "--json"]);
    let lines = json_lines(&output);
    let result = lines.last().expect("a result line");
    assert!(output.status.success(), "{result}");
    assert_eq!(result["connected"], true, "{result}");
}

fn connections_are_explained(alice: &Node) {
    let output = alice.run(&["connections", "--json"]);
    assert!(output.status.success());
    let connections: Value = serde_json::from_slice(&output.stdout).unwrap();
    let connections = connections.as_array().unwrap();
    assert!(
        connections.iter().filter(|connection| connection["role"] == "home").count() >= 2,
        "{connections:?}"
    );
    for connection in connections {
        assert!(connection["purpose"].as_str().unwrap().ends_with('.'), "{connection}");
        assert!(connection["since_unix_ms"].as_u64().unwrap() > 0);
        assert!(connection["bytes_in"].is_u64() && connection["bytes_out"].is_u64());
    }
}

fn call_with_a_node_of_its_own(bootstrap: &[String], address: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tandem();
    command.args(["call", address, "--for", "2s", "--json", "--data"]).arg(folder.path().join("data"));
    command.args(bootstrap.iter().flat_map(|address| ["--bootstrap", address]));
    let output = command.args(["--play", speech().to_str().unwrap()]).output().unwrap();
    let lines = json_lines(&output);
    assert!(output.status.success(), "{lines:?} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines.last().unwrap()["connected"], true);
}

#[test]
fn a_call_to_nobody_ends_with_a_reason_and_without_success() {
    let first = Node::supernode(71, &[]);
    let second = Node::supernode(72, &first.listen());
    let nobody = "tandem:agiis3jprn2urlejamb3j26ljztpv2ktfejopb3hqdztqt3qu2pz5c75bfja";
    let output = second.run(&["call", nobody, "--for", "2s", "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let lines = json_lines(&output);
    let result = lines.last().unwrap();
    assert_eq!(result["connected"], false);
    assert!(result["why"].as_str().unwrap().ends_with('.'), "{result}");
}

#[test]
fn what_is_wrong_is_said_with_a_code_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |arguments: &[&str]| {
        let output = tandem().args(arguments).arg("--data").arg(&data).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["id"]).0, Some(0));
    let key = std::fs::read(data.join("keys/account.key")).unwrap();
    let (code, said) = run(&["call", "tandem:abc"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("T1112"), "{said}");
    let (code, said) = run(&["up", "--volunteer", "relay", "--listen", "127.73.0.1:4001"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("T1204"), "{said}");
    assert_eq!(run(&["connections"]).0, Some(3));
    assert_eq!(std::fs::read(data.join("keys/account.key")).unwrap(), key);
}

/// `tandem relay` with TURN-REST credentials, used by coturn's own client.
#[test]
fn the_relay_alone_serves_a_standard_client() {
    if std::process::Command::new("turnutils_uclient").arg("-h").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "turnutils_uclient is missing: install the package coturn");
        eprintln!("turnutils_uclient is not installed (package coturn): nothing was tried");
        return;
    }
    let ip = "127.74.0.1".parse().unwrap();
    let port = free_port(ip);
    let mut relay = tandem()
        .args(["relay", "--listen", &format!("{ip}:{port}"), "--rest-secret", "a secret of this test"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let client = |more: &[&str]| {
        std::process::Command::new("turnutils_uclient")
            .args(["-y", "-c", "-m", "1", "-n", "20", "-u", "caller", "-W", "a secret of this test", "-p"])
            .arg(port.to_string())
            .args(more)
            .arg(ip.to_string())
            .output()
            .unwrap()
    };
    let (udp, tcp) = (client(&[]), client(&["-t"]));
    // Both fail only when it has ended already.
    drop(relay.kill());
    drop(relay.wait());
    for output in [udp, tcp] {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("tot_recv_msgs=40"), "{said}");
        assert!(said.contains("Total lost packets 0 "), "{said}");
    }
}
