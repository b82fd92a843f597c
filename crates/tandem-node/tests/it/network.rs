//! The machine's network is followed as it changes, in a network namespace of the test's own.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use tandem_node::platform::network::{ADDRESSES_MAX, Network, watch};

const WITHIN: Duration = Duration::from_secs(10);

/// Runs a test on a thread in a network namespace that ends with it; what the thread starts is in there too.
pub(crate) fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace can be made: run this test as root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits for the network to be as wanted; says how it is if it does not become so.
async fn becomes(
    news: &mut tokio::sync::watch::Receiver<Network>,
    wanted: impl Fn(&Network) -> bool,
) -> Network {
    let result =
        tokio::time::timeout(WITHIN, news.wait_for(&wanted)).await.map(|found| found.unwrap().clone());
    match result {
        Ok(network) => network,
        Err(_) => panic!("it is {:?}", *news.borrow()),
    }
}

fn has(network: &Network, text: &str) -> bool {
    let wanted: IpAddr = text.parse().unwrap();
    network.addresses.iter().any(|address| address.ip == wanted)
}

#[test]
fn addresses_routes_and_links_are_followed() {
    in_namespace(|| async {
        let mut news = watch().await;
        assert!(!news.borrow().is_up(), "{:?}", *news.borrow());
        ip("link set lo up");
        ip("link add one0 type veth peer name one1");
        ip("link set one1 up");
        ip("link set one0 up");
        ip("address add 10.77.0.2/24 dev one0");
        let network = becomes(&mut news, |network| has(network, "10.77.0.2")).await;
        assert_eq!(network.addresses[0].default_route, None);
        assert_eq!(network.gateways, []);

        ip("route add default via 10.77.0.1 dev one0 metric 7");
        let network = becomes(&mut news, |network| !network.gateways.is_empty()).await;
        assert_eq!(network.gateways[0].via, Some("10.77.0.1".parse().unwrap()));
        assert_eq!(network.addresses[0].default_route, Some(7));
        assert_eq!(network.mappable(), Some("10.77.0.2".parse().unwrap()));

        ip("address add 2001:db8:7::2/64 dev one0 nodad");
        becomes(&mut news, |network| has(network, "2001:db8:7::2")).await;
        assert!(!news.borrow().addresses.iter().any(|address| address.ip.to_string().starts_with("fe80")));

        // The other end of the cable goes: no carrier.
        ip("link set one1 down");
        becomes(&mut news, |network| !network.is_up()).await;
        ip("link set one1 up");
        becomes(&mut news, |network| has(network, "10.77.0.2")).await;
        ip("address del 10.77.0.2/24 dev one0");
        becomes(&mut news, |network| !has(network, "10.77.0.2") && network.gateways.is_empty()).await;
    });
}

#[test]
fn a_bridge_for_containers_is_told_apart() {
    in_namespace(|| async {
        let mut news = watch().await;
        ip("link add name docker0 type bridge");
        ip("link add one0 type veth peer name one1");
        for link in ["one0", "one1", "docker0"] {
            ip(&format!("link set {link} up"));
        }
        ip("link set one1 master docker0");
        ip("address add 172.17.0.1/16 dev docker0");
        ip("address add 192.168.9.2/24 dev one0");
        let both = |network: &Network| has(network, "172.17.0.1") && has(network, "192.168.9.2");
        let network = becomes(&mut news, both).await;
        assert_eq!(network.hosts(false), ["192.168.9.2".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn many_changes_at_once_are_one_piece_of_news() {
    in_namespace(|| async {
        ip("link add one0 type veth peer name one1");
        ip("link set one1 up");
        ip("link set one0 up");
        // IPv6 addresses make themselves: they are not what is counted here.
        ip("link set one0 addrgenmode none");
        let mut news = watch().await;
        let batch: String = (1..=200).map(|n| format!("address add 10.77.0.{n}/24 dev one0\n")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), batch).unwrap();
        ip(&format!("-batch {}", file.path().display()));
        let mut told = 0;
        while tokio::time::timeout(Duration::from_secs(1), news.changed()).await.is_ok() {
            told += 1;
        }
        assert_eq!(news.borrow_and_update().addresses.len(), ADDRESSES_MAX);
        assert!((1..=8).contains(&told), "200 addresses made {told} pieces of news");
    });
}
