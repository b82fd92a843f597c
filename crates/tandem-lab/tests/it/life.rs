//! A lab leaves nothing behind, and labs do not disturb each other.

use std::collections::BTreeSet;

use tandem_lab::{Conditions, HomePlan, Lab, Nat, Plan};

use crate::{has_lab, receive, socket, v4};

fn named() -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

#[test]
fn two_labs_at_once_are_apart_and_leave_nothing() {
    if !has_lab() {
        return;
    }
    let plan =
        || Plan::with_servers(1, None).home(HomePlan::new("a", Nat::FullCone).line(Conditions::default()));
    let labs = [Lab::build(&plan()).expect("a lab"), Lab::build(&plan()).expect("another")];
    let names: Vec<String> =
        labs.iter().map(|lab| lab.host("a-host").expect("host").namespace().name().to_owned()).collect();
    assert_ne!(names[0], names[1]);
    for lab in &labs {
        let (host, server) = (lab.host("a-host").expect("host"), lab.host("s1").expect("s1"));
        // The same addresses in both, and each packet stays in its own lab.
        let server_socket = socket(server, v4(server), 5000);
        let name = lab.core().name().to_owned();
        socket(host, v4(host), 0)
            .send_to(name.as_bytes(), server_socket.local_addr().expect("address"))
            .expect("send");
        assert_eq!(receive(&server_socket).0, name);
    }
    assert!(names.iter().all(|name| named().contains(name)));
    drop(labs);
    assert!(names.iter().all(|name| !named().contains(name)));
}

#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    if !has_lab() {
        return;
    }
    let twice = Plan::default().home(HomePlan::new("a", Nat::None)).home(HomePlan::new("a", Nat::None));
    assert!(Lab::build(&twice).expect_err("twice").to_string().contains("called a"));
    let nowhere = Plan::default().home(HomePlan::new("a", Nat::PortRestricted).via("nobody"));
    assert!(Lab::build(&nowhere).expect_err("nowhere").to_string().contains("nobody"));
}
