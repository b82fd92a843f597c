//! Real swarms on loopback, each on an address of its own (127.N.0.1, so each in a network of its own). A supernode
//! runs on a thread of its own: it can be frozen, or vanish without a word.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use tandem_node::overlay::{
    DeviceCommand, DeviceConfig, DeviceEvent, PublicAddresses, ServiceCommand, ServiceConfig, ServiceEvent,
    SupernodeAddress, spawn_device, spawn_service,
};
use tandem_proto::identity::{DeviceSecret, ServiceSecret};
use tandem_proto::ids::{DeviceKey, ServiceKey};
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::names::NetworkId;
use tokio::sync::mpsc;

/// A wrong answer comes late rather than never; a right one needs far less.
const PATIENCE: Duration = Duration::from_secs(25);

pub(crate) fn network() -> NetworkId {
    "overlay-test".parse().unwrap()
}

pub(crate) fn loopback(n: u8) -> IpAddr {
    Ipv4Addr::new(127, n, 0, 1).into()
}

pub(crate) fn lab() -> PublicAddresses {
    PublicAddresses::with_ranges(&["127.0.0.0/8", "::1/128"]).unwrap()
}

/// A port that is free for both TCP and UDP.
pub(crate) fn free_port(ip: IpAddr) -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

pub(crate) fn both(listen: SocketAddr) -> Vec<Vec<u8>> {
    [Transport::Quic, Transport::Tcp]
        .map(|transport| TransportAddress { ip: listen.ip(), port: listen.port(), transport }.to_bytes())
        .to_vec()
}

pub(crate) struct Service {
    pub(crate) key: ServiceKey,
    pub(crate) listen: SocketAddr,
    pub(crate) commands: mpsc::Sender<ServiceCommand>,
    pub(crate) events: mpsc::Receiver<ServiceEvent>,
    control: mpsc::Sender<Control>,
    thread: Option<JoinHandle<()>>,
}

enum Control {
    /// Nothing runs until the receiver hears something, or its sender is gone.
    Freeze(blocking::Receiver<()>),
    Kill,
}

impl Service {
    /// `n`: its address 127.n.0.1 and its key.
    pub(crate) fn start(n: u8) -> Self {
        Self::start_with(n, |_| {})
    }

    pub(crate) fn start_with(n: u8, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        let secret = ServiceSecret::from_seed(&[n; 32]);
        let (key, listen) = (secret.public(), free_port(loopback(n)));
        let mut config = ServiceConfig::new(secret, network(), listen, lab());
        change(&mut config);
        let (control, mut orders) = mpsc::channel(4);
        let (tell, told) = blocking::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tell.send(spawn_service(config).unwrap()).unwrap();
                while let Some(Control::Freeze(until)) = orders.recv().await {
                    until.recv().ok();
                }
            });
            runtime.shutdown_background();
        });
        let (commands, events) = told.recv().unwrap();
        Self { key, listen, commands, events, control, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SupernodeAddress {
        SupernodeAddress { service: self.key, addresses: both(self.listen) }
    }

    /// Stops it where it stands; it goes on when the result is dropped.
    pub(crate) async fn freeze(&self) -> blocking::Sender<()> {
        let (thaw, until) = blocking::channel();
        self.control.send(Control::Freeze(until)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        thaw
    }

    /// Ends it without a farewell.
    pub(crate) async fn kill(&mut self) {
        self.control.send(Control::Kill).await.unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) struct Device {
    pub(crate) key: DeviceKey,
    pub(crate) commands: mpsc::Sender<DeviceCommand>,
    pub(crate) events: mpsc::Receiver<DeviceEvent>,
}

impl Device {
    pub(crate) fn start(n: u8) -> Self {
        Self::start_with(n, |_| {})
    }

    pub(crate) fn start_with(n: u8, change: impl FnOnce(&mut DeviceConfig)) -> Self {
        let secret = DeviceSecret::from_seed(&[n; 32]);
        let key = secret.public();
        let mut config = DeviceConfig::new(secret, network(), lab());
        config.bind = Some(loopback(n));
        change(&mut config);
        let (commands, events) = spawn_device(config).unwrap();
        Self { key, commands, events }
    }

    pub(crate) async fn send(&self, command: DeviceCommand) {
        self.commands.send(command).await.unwrap();
    }

    /// Opens a home and reserves there.
    pub(crate) async fn settle(&mut self, home: &Service) {
        let remote = self.settle_at(home, both(home.listen)).await;
        assert_eq!(remote, Some(home.listen.ip()));
    }

    /// The same by these addresses; where it was reached.
    pub(crate) async fn settle_at(&mut self, home: &Service, addresses: Vec<Vec<u8>>) -> Option<IpAddr> {
        self.send(DeviceCommand::OpenHome(SupernodeAddress { service: home.key, addresses })).await;
        let remote = next(&mut self.events, |event| match event {
            DeviceEvent::HomeOpened { service, remote } if service == home.key => Some(remote),
            DeviceEvent::HomeClosed { service, reason } if service == home.key => panic!("{reason}"),
            _ => None,
        })
        .await;
        self.send(DeviceCommand::Reserve(home.key)).await;
        next(&mut self.events, |event| match event {
            DeviceEvent::Reserved { service } if service == home.key => Some(()),
            DeviceEvent::ReservationLost { service, reason } if service == home.key => panic!("{reason}"),
            _ => None,
        })
        .await;
        remote
    }
}

/// The first event that is wanted; others are dropped.
pub(crate) async fn next<E, T>(events: &mut mpsc::Receiver<E>, mut want: impl FnMut(E) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.recv().await.expect("the swarm has not ended");
            if let Some(found) = want(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("the awaited event comes")
}
