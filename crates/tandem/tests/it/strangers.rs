//! Invitations and silent requests, as people use them.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::{Node, json_lines};

/// Only ends a hang.
const WITHIN: Duration = Duration::from_secs(60);

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

/// Calls; meanwhile the callee does this until it succeeds: nothing may ring yet.
fn call_while(caller: &Node, whom: &str, callee: &Node, does: &str) -> Output {
    std::thread::scope(|scope| {
        let call = scope.spawn(|| caller.run(&["call", whom, "--for", "2s", "--json"]));
        let until = Instant::now() + WITHIN;
        while !callee.run(&[does]).status.success() {
            assert!(!call.is_finished() && Instant::now() < until, "it never rang");
            std::thread::sleep(Duration::from_millis(100));
        }
        call.join().unwrap()
    })
}

/// The names of a call's steps, and its result.
fn course(output: &Output) -> (Vec<String>, Value) {
    let lines = json_lines(output);
    let (result, events) = lines.split_last().expect("a result line");
    let steps = events.iter().filter_map(|event| Some(event["event"].as_str()?.to_owned()));
    (steps.collect(), result.clone())
}

fn rang(output: &Output) -> bool {
    course(output).0.iter().any(|step| step == "ringing")
}

#[test]
fn a_link_rings_until_it_is_revoked_and_a_request_opens_the_door() {
    let first = Node::supernode(71, &[]);
    let bootstrap = first.listen();
    let others: Vec<Node> = (72..=73).map(|network| Node::supernode(network, &bootstrap)).collect();
    let with_bootstrap: Vec<&str> = bootstrap.iter().flat_map(|address| ["--bootstrap", address]).collect();
    let [bob, alice] = [74, 75].map(|network| Node::up(network, &with_bootstrap));

    let made = json(&bob.run(&["invite", "--label", "Fair", "--json"]));
    let link = made["link"].as_str().unwrap();
    let (steps, result) = course(&call_while(&alice, link, &bob, "answer"));
    assert_eq!(
        (&result["connected"], &result["path"]),
        (&Value::Bool(true), &Value::from("relayed")),
        "{steps:?}"
    );

    let damaged = alice.run(&["call", &link[..link.len() - 4]]);
    let told = String::from_utf8(damaged.stderr).unwrap();
    assert!(damaged.status.code() == Some(1) && told.contains("T1809"), "{told}");
    let id = made["invitation"]["id"].to_string();
    assert!(bob.run(&["invite", "revoke", &id]).status.success());
    let refused = alice.run(&["call", link, "--json"]);
    assert!(!refused.status.success() && !rang(&refused), "{:?}", course(&refused));
    assert!(course(&refused).1["why"].as_str().unwrap().contains("revoked"), "{:?}", course(&refused));

    let left = alice.run(&["request", bob.address(), "--name", "Alice", "--message", "The fair.", "--json"]);
    assert_eq!(json(&left)["state"], "left");
    let waiting = json(&bob.run(&["requests", "--json"]));
    assert_eq!(waiting[0]["address"], alice.address());
    assert_eq!((waiting.as_array().unwrap().len(), &waiting[0]["message"]), (1, &Value::from("The fair.")));
    assert!(bob.run(&["requests", "accept", alice.address()]).status.success());
    assert!(rang(&call_while(&alice, bob.address(), &bob, "decline")));

    assert!(bob.run(&["block", "Alice"]).status.success());
    assert!(!rang(&alice.run(&["call", bob.address(), "--json"])));
    let own = bob.run(&["block", bob.address()]);
    assert!(String::from_utf8(own.stderr).unwrap().contains("T1810"));
    for node in others.into_iter().chain([alice, bob, first]) {
        assert_eq!(node.terminate(), Some(0));
    }
}
