//! Consent, with the real binary: nothing is served before it, what is served is shown, and it can be taken back.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::world::{Node, json_lines, tandem};

/// A socket of this process: its protocol, where it is bound, and whether it is a TCP socket that listens.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    protocol: &'static str,
    port: u16,
    loopback: bool,
    listens: bool,
}

/// The sockets of a process, as the kernel has them.
fn sockets(pid: u32) -> BTreeSet<Bound> {
    let inodes: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut bound = BTreeSet::new();
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/{protocol}")).unwrap();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if !inodes.contains(fields[9]) {
                continue;
            }
            let (address, port) = fields[1].split_once(':').unwrap();
            bound.insert(Bound {
                protocol,
                port: u16::from_str_radix(port, 16).unwrap(),
                // 127.x.y.z, in the order of a little-endian machine.
                loopback: address.len() == 8 && address.ends_with("7F"),
                listens: fields[3] == "0A",
            });
        }
    }
    bound
}

fn json(node: &Node, arguments: &[&str]) -> Value {
    let output = node.run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    json_lines(&output).pop().unwrap()
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Tries what a supernode would answer to at that address.
fn answers_nobody(at: SocketAddr) {
    assert!(TcpStream::connect_timeout(&at, Duration::from_secs(5)).is_err(), "TCP {at} was accepted");
    for at in [at, SocketAddr::new(at.ip(), at.port() + 1)] {
        let socket = UdpSocket::bind((at.ip(), 0)).unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // A STUN Binding request (RFC 8489): a relay answers it even in reserve.
        let request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42consentxxxxx";
        socket.send(&request).unwrap();
        // On loopback the kernel says at once that nobody has the port.
        let heard = socket.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(heard.kind(), std::io::ErrorKind::ConnectionRefused, "UDP {at}");
    }
}

#[test]
fn nothing_is_served_before_consent() {
    let supernode = Node::supernode(90, &[]);
    let bootstrap = supernode.listen();
    let with_bootstrap: Vec<&str> = bootstrap.iter().flat_map(|address| ["--bootstrap", address]).collect();
    // It has a public place to listen on; its owner was never asked.
    let ip: IpAddr = "127.91.0.1".parse().unwrap();
    let plain = Node::up(91, &with_bootstrap);
    assert_eq!(plain.ready["ready"], true);
    let listen = SocketAddr::new(ip, plain.listen_port);

    answers_nobody(listen);
    let bound = sockets(plain.pid());
    let listening: Vec<&Bound> = bound.iter().filter(|socket| socket.listens).collect();
    assert_eq!(listening.len(), 1, "only the local API: {bound:?}");
    assert!(listening[0].loopback && listening[0].port == port_of(&api_address(&plain.data)));
    let taken = |socket: &&Bound| [listen.port(), listen.port() + 1].contains(&socket.port);
    assert_eq!(bound.iter().find(taken), None, "nothing is where a supernode would be");

    let view = json(&plain, &["volunteer"]);
    assert_eq!(
        (&view["state"], &view["accepted"], &view["bytes_served"]),
        (&"off".into(), &Value::Null, &0.into())
    );
    assert_eq!(view["roles"], serde_json::json!([]));
    assert_eq!(json(&plain, &["volunteer", "ledger"])["lines"], serde_json::json!([]));
    // What looks like this on a supernode is there, and is seen by the same eyes.
    let served = sockets(supernode.pid());
    assert!(served.iter().filter(|socket| socket.listens).count() > 1, "{served:?}");
}

fn api_address(data: &Path) -> String {
    let info: Value = serde_json::from_slice(&std::fs::read(data.join("api.json")).unwrap()).unwrap();
    info["address"].as_str().unwrap().to_owned()
}

#[test]
fn consent_and_caps_can_be_given_and_taken_back_without_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |arguments: &[&str]| {
        let output = tandem().args(arguments).arg("--data").arg(&data).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, said) = run(&["volunteer"]);
    assert!(code == Some(0) && said.contains("you have not agreed"), "{said}");
    // Nobody is there who could have read the terms.
    let (code, said) = run(&["volunteer", "accept"]);
    assert!(code == Some(1) && said.contains("T1204"), "{said}");
    let (code, said) = run(&["volunteer", "accept", "--terms", "99"]);
    assert!(code == Some(1) && said.contains("T1204"), "{said}");
    assert!(run(&["volunteer"]).1.contains("you have not agreed"));

    let (code, said) = run(&["volunteer", "accept", "--terms", "1", "--roles", "relay"]);
    assert!(code == Some(0) && said.contains("No node is running now"), "{said}");
    let caps = ["volunteer", "caps", "--calls", "3", "--bytes-per-month", "5GB", "--hours", "22-6:30"];
    let (code, said) = run(&caps);
    assert!(code == Some(0) && said.contains("22:00-06:30") && said.contains("5.0 GB"), "{said}");
    assert_eq!(run(&["volunteer", "caps", "--hours", "late"]).0, Some(1));
    let (_, said) = run(&["volunteer", "--json"]);
    let view: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(view["roles"], serde_json::json!(["relay"]));
    assert_eq!((&view["caps"]["calls"], &view["caps"]["hours"]), (&3.into(), &"22:00-06:30".into()));
    assert!(run(&["volunteer", "ledger"]).1.contains("Nothing was served"));
    assert_eq!(run(&["volunteer", "watch"]).0, Some(3), "there is nothing to watch");

    assert_eq!(run(&["volunteer", "withdraw"]).0, Some(0));
    let (_, said) = run(&["volunteer", "--json"]);
    let view: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&view["accepted"], &view["state"]), (&Value::Null, &"off".into()));
    assert!(
        view["consents"][0]["given_unix_ms"].is_u64() && view["consents"][0]["withdrawn_unix_ms"].is_u64()
    );
    for text in [run(&["volunteer", "terms"]).1, run(&["volunteer", "--terms"]).1] {
        assert!(text.contains("The terms for volunteers, number 1"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
