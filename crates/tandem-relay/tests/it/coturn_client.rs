//! Debian's coturn client against the driver: `turnutils_uclient -y -c`. It allocates, refreshes, permits, binds
//! channels and sends both ways between two allocations of its own, over UDP and over TCP.
//!
//! `-y` makes it its own peer, `-c` leaves RTCP out (which would ask for EVEN-PORT), `-m 1` makes one pair. It leaves a
//! third allocation behind, its first probe, which makes room since it never permitted anybody.

use std::process::Command;

use tandem_proto::grant::RestSecret;
use tandem_relay::config::Config;
use tandem_relay::driver::{DriverConfig, Handle};
use tandem_relay::server::DropReason;

use crate::wire::wait_until;

const CLIENT: &str = "turnutils_uclient";
const SECRET: &str = "a secret shared with the clients";
const MESSAGES: u64 = 20;

#[test]
fn over_udp_with_channels() {
    pair_talks(&[]);
}

#[test]
fn over_udp_with_send_indications() {
    pair_talks(&["-s"]);
}

#[test]
fn over_udp_with_dont_fragment_and_extra_requests() {
    pair_talks(&["-g", "-G"]);
}

#[test]
fn over_tcp_with_channels() {
    pair_talks(&["-t"]);
}

#[test]
fn over_tcp_with_send_indications() {
    pair_talks(&["-t", "-s"]);
}

#[test]
fn a_wrong_secret_gets_nothing() {
    if !client_is_installed() {
        return;
    }
    let relay = start_relay();
    let output = run_client(&relay, "another secret", &[]);
    assert!(!output.contains(&format!("tot_recv_msgs={}", 2 * MESSAGES)), "{output}");
    let stats = relay.stats().server;
    assert_eq!((stats.allocations_made, stats.packets_forwarded), (0, 0));
}

fn pair_talks(options: &[&str]) {
    if !client_is_installed() {
        return;
    }
    let relay = start_relay();
    let output = run_client(&relay, SECRET, options);
    let all = format!("tot_send_msgs={0}, tot_recv_msgs={0}", 2 * MESSAGES);
    assert!(output.contains(&all), "every message must arrive; the client said:\n{output}");
    assert!(output.contains("Total lost packets 0 "), "{output}");

    let stats = relay.stats().server;
    // The client sends a few more to begin with, before it counts.
    assert!(stats.packets_forwarded >= 2 * MESSAGES, "{stats:?}");
    assert_eq!(stats.dropped_for(DropReason::NoPartner), 0, "{stats:?}");
    // It does not wait for the answers to its last requests.
    wait_until("all is given back", || relay.allocations().is_empty());
}

fn start_relay() -> Handle {
    // An address for each, so that a client which says that it uses one cannot have used the other.
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let config = Config::for_rest_secret(RestSecret::new(SECRET));
    tandem_relay::driver::start_on(&DriverConfig::default(), vec![udp], vec![tcp], config, [7; 32]).unwrap()
}

fn run_client(relay: &Handle, secret: &str, options: &[&str]) -> String {
    let tcp = options.contains(&"-t");
    let address = if tcp { relay.tcp_addresses()[0] } else { relay.udp_addresses()[0] };
    let output = Command::new(CLIENT)
        .args(["-y", "-c", "-m", "1", "-n", &MESSAGES.to_string(), "-u", "caller", "-W", secret])
        .args(options)
        .args(["-p", &address.port().to_string(), &address.ip().to_string()])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Where tests must be whole (CI), a missing client is a failure; elsewhere it is said and passed over.
fn client_is_installed() -> bool {
    let found = Command::new(CLIENT).arg("-?").output().is_ok();
    assert!(
        found || std::env::var_os("CI").is_none(),
        "{CLIENT} is missing: install Debian's package coturn"
    );
    if !found {
        println!("not tested: {CLIENT} is missing (Debian's package coturn has it)");
    }
    found
}
