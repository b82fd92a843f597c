//! Lines do what they are told, also while packets are on them; hosts move between networks.

use std::time::{Duration, Instant};

use tandem_lab::{Conditions, HomePlan, Lab, Loss, Nat, Plan, Way};

use crate::{has_lab, is_silent, receive, socket, v4};

#[test]
fn a_line_delays_loses_and_can_be_changed() {
    if !has_lab() {
        return;
    }
    let delay = Duration::from_millis(40);
    let home = HomePlan::new("a", Nat::None).line(Conditions::delayed(delay));
    let lab = Lab::build(&Plan::with_servers(1, None).home(home)).expect("a lab");
    let (host, server) = (lab.host("a-host").expect("host"), lab.host("s1").expect("s1"));
    let (inside, server) = (socket(host, v4(host), 0), socket(server, v4(server), 5000));
    let to = server.local_addr().expect("address");
    inside.send_to(b"warm up", to).expect("send");
    receive(&server);

    let begun = Instant::now();
    inside.send_to(b"delayed", to).expect("send");
    let (_, from) = receive(&server);
    assert!(begun.elapsed() >= delay);
    server.send_to(b"delayed too", from).expect("send");
    receive(&inside);
    assert!(begun.elapsed() >= delay * 2);

    let link = lab.link("a").expect("a line");
    link.set_way(Way::Up, Conditions::cut());
    inside.send_to(b"lost", to).expect("send");
    server.send_to(b"comes", from).expect("send");
    assert_eq!(receive(&inside).0, "comes");
    assert!(is_silent(&server));
    assert_eq!(link.counts(Way::Up).lost, 1);
    link.set(Conditions::default());
    inside.send_to(b"healed", to).expect("send");
    assert_eq!(receive(&server).0, "healed");
}

#[test]
fn the_same_trace_can_be_had_again() {
    if !has_lab() {
        return;
    }
    let loss = Conditions { loss: Loss::Bursty { mean: 0.3, burst: 3.0 }, ..Conditions::default() };
    let home = HomePlan::new("a", Nat::None).line(Conditions::default());
    let lab = Lab::build(&Plan::with_servers(1, None).home(home)).expect("a lab");
    let (host, server) = (lab.host("a-host").expect("host"), lab.host("s1").expect("s1"));
    let (inside, server) = (socket(host, v4(host), 0), socket(server, v4(server), 5000));
    let to = server.local_addr().expect("address");
    let link = lab.link("a").expect("a line");
    let mut traces = Vec::new();
    for _ in 0..2 {
        link.set_way(Way::Up, loss);
        link.replay(42);
        let before = link.counts(Way::Up).packets;
        for number in 0..100 {
            inside.send_to(format!("{number}").as_bytes(), to).expect("send");
        }
        while link.counts(Way::Up).packets < before + 100 {
            std::thread::sleep(Duration::from_millis(5));
        }
        link.set_way(Way::Up, Conditions::default());
        inside.send_to(b"last", to).expect("send");
        let mut arrived = Vec::new();
        while arrived.last().is_none_or(|text| text != "last") {
            arrived.push(receive(&server).0);
        }
        assert!(arrived.len() > 20 && arrived.len() < 95, "{}", arrived.len());
        traces.push(arrived);
    }
    assert_eq!(traces[0], traces[1]);
}

#[test]
fn a_host_moves_to_another_network_and_back() {
    if !has_lab() {
        return;
    }
    let plan = Plan::with_servers(1, None)
        .home(HomePlan::new("a", Nat::PortRestricted))
        .home(HomePlan::new("b", Nat::PortRestricted));
    let lab = Lab::build(&plan).expect("a lab");
    let (host, server) = (lab.host("a-host").expect("host"), lab.host("s1").expect("s1"));
    let server = socket(server, v4(server), 5000);
    let seen_from = || {
        let inside = socket(host, v4(host), 0);
        inside.send_to(b"hello", server.local_addr().expect("address")).expect("send");
        receive(&server).1.ip()
    };
    let outside = |home: &str| -> std::net::IpAddr {
        lab.nat(home).expect("router").outside().expect("an address").into()
    };
    assert_eq!(seen_from(), outside("a"));
    let first = v4(host);
    host.move_to("b").expect("move");
    assert_ne!(v4(host), first);
    assert_eq!(seen_from(), outside("b"));
    host.move_to("a").expect("move");
    assert_eq!(v4(host), first);
    assert_eq!(seen_from(), outside("a"));
    host.set_link(false).expect("down");
    assert!(host.addresses().is_empty());
    host.set_link(true).expect("up");
    assert_eq!(seen_from(), outside("a"));
}

#[test]
fn the_network_between_two_can_be_cut() {
    if !has_lab() {
        return;
    }
    let lab = Lab::build(&Plan::with_servers(3, None)).expect("a lab");
    let host = |name| lab.host(name).expect("host");
    let all: Vec<_> = ["s1", "s2", "s3"].map(|name| socket(host(name), v4(host(name)), 5000)).into();
    lab.cut(v4(host("s1")), v4(host("s2"))).expect("cut");
    all[0].send_to(b"cut", all[1].local_addr().expect("address")).expect("send");
    all[0].send_to(b"whole", all[2].local_addr().expect("address")).expect("send");
    assert_eq!(receive(&all[2]).0, "whole");
    assert!(is_silent(&all[1]));
    lab.heal().expect("heal");
    all[0].send_to(b"healed", all[1].local_addr().expect("address")).expect("send");
    assert_eq!(receive(&all[1]).0, "healed");
}
