//! A network of a test's own, which only root can make: loopback, and one interface that leads nowhere, with an address
//! of each family, to which everything else is routed. What is sent to anybody leaves by it and is seen; nobody is
//! reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

pub(crate) const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
pub(crate) const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Without ARP and neighbour discovery: what is sent to an address where nobody is leaves all the same.
const STEPS: [&str; 8] = [
    "link set lo up",
    "link add wan arp off type veth peer name nowhere",
    "addr add 192.0.2.1/24 dev wan",
    "addr add 2001:db8::1/64 dev wan nodad",
    "link set nowhere up",
    "link set wan up",
    "route add default dev wan",
    "-6 route add default dev wan",
];

/// Runs a test in a network of its own, which is its thread's and that of every thread and process it starts. Where
/// there can be none that is a failure in CI; elsewhere it is said and the test left out.
pub(crate) fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| match enter() {
        Ok(()) => test(),
        Err(why) => left_out(&format!("no network of its own: {why}")),
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Says that a test cannot be run here. In CI it must be.
pub(crate) fn left_out(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("LEFT OUT: {why}");
}

fn enter() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("only root may make one ({error})"))?;
    for step in STEPS {
        let output = Command::new("ip").args(step.split(' ')).output();
        let output = output.map_err(|error| format!("Debian's iproute2 is missing ({error})"))?;
        if !output.status.success() {
            return Err(format!("ip {step}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(())
}
