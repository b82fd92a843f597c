//! A supernode made of the node's own parts that writes down what it can see: every home frame, and every datagram of
//! its relay.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tandem_core::service::{ClientRef, Command, Config, Endpoint, Service};
use tandem_core::time::Now;
use tandem_node::installation::unix_ms;
use tandem_node::overlay::{
    ClientId, PublicAddresses, ServiceCommand, ServiceConfig, ServiceEvent, SupernodeAddress, spawn_service,
};
use tandem_proto::grant::RelaySecret;
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::names::NetworkId;
use tandem_proto::signed::{NewDescriptor, Roles, SupernodeDescriptor};
use tandem_proto::wire::HomeFrame;
use tandem_relay::credentials::Credentials;
use tandem_relay::driver::{DriverConfig, Handle};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// A frame, whose key the other end proved, and which way it went.
#[derive(Clone)]
pub(crate) struct SeenFrame {
    pub(crate) peer: [u8; 32],
    pub(crate) received: bool,
    pub(crate) frame: HomeFrame,
}

/// A datagram of the relay, whose client it came from or went to, and which way it went.
#[derive(Clone)]
pub(crate) struct SeenDatagram {
    pub(crate) client: SocketAddr,
    pub(crate) received: bool,
    pub(crate) data: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) frames: Vec<SeenFrame>,
    pub(crate) datagrams: Vec<SeenDatagram>,
}

pub(crate) struct Recorder {
    pub(crate) service: ServiceKey,
    pub(crate) address: SupernodeAddress,
    /// As others bootstrap from it.
    pub(crate) bootstrap: String,
    log: Arc<Mutex<Log>>,
    relay: Handle,
}

impl Recorder {
    /// Starts one on 127.`network`.0.1 that knows those others.
    pub(crate) async fn start(network: u8, others: &[SupernodeAddress]) -> Self {
        let ip = IpAddr::from(Ipv4Addr::new(127, network, 0, 1));
        let listen = crate::overlay_world::free_port(ip);
        let secret = ServiceSecret::from_seed(&[network; 32]);
        let service = secret.public();
        let log = Arc::new(Mutex::new(Log::default()));
        let relay = start_relay(service, network, ip);
        let relay_at = forward(ip, relay.udp_addresses()[0], Arc::clone(&log)).await;
        let public = PublicAddresses::with_ranges(&["127.0.0.0/8"]).unwrap();
        let config = ServiceConfig::new(
            ServiceSecret::from_seed(&[network; 32]),
            NetworkId::default(),
            listen,
            public,
        );
        let (commands, mut events) = spawn_service(config).unwrap();
        let bootstrap = loop {
            if let Some(ServiceEvent::Listening { address }) = events.recv().await {
                break address;
            }
        };
        let at = |transport| TransportAddress { ip, port: listen.port(), transport }.to_bytes();
        let addresses = vec![at(Transport::Quic), at(Transport::Tcp)];
        let address = SupernodeAddress { service, addresses: addresses.clone() };
        let mut core = Config::new(service, "tandem/test".to_owned());
        core.roles = Roles(0).with(Roles::DIRECTORY).with(Roles::RELAY);
        core.relay_secret = Some(RelaySecret::new([network; 32]));
        let driver = Driver {
            begun: Instant::now(),
            secret,
            addresses,
            relay: TransportAddress { ip, port: relay_at.port(), transport: Transport::Udp }.to_bytes(),
            commands,
            peers: BTreeMap::new(),
            log: Arc::clone(&log),
        };
        let others: Vec<Endpoint> = others
            .iter()
            .map(|other| Endpoint { service: other.service, addresses: other.addresses.clone() })
            .collect();
        tokio::spawn(driver.run(core, events, others, u64::from(network)));
        Self { service, address, bootstrap, log, relay }
    }

    pub(crate) fn frames(&self) -> Vec<SeenFrame> {
        self.log.lock().unwrap().frames.clone()
    }

    pub(crate) fn datagrams(&self) -> Vec<SeenDatagram> {
        self.log.lock().unwrap().datagrams.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.relay.shutdown();
    }
}

fn start_relay(service: ServiceKey, network: u8, ip: IpAddr) -> Handle {
    let secret = RelaySecret::new([network; 32]);
    let config = tandem_relay::config::Config::new(Credentials::Grants { relay: service, secret });
    let driver = DriverConfig { udp: vec![SocketAddr::new(ip, 0)], ..DriverConfig::default() };
    tandem_relay::driver::start(&driver, config, [network; 32]).unwrap()
}

/// Stands in front of a relay: a socket of its own for each client, all datagrams written down.
async fn forward(ip: IpAddr, relay: SocketAddr, log: Arc<Mutex<Log>>) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
    let at = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut behind: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = front.recv_from(&mut buffer).await {
            let data = buffer[..length].to_vec();
            log.lock().unwrap().datagrams.push(SeenDatagram { client, received: true, data });
            let socket = match behind.entry(client) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let socket = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
                    socket.connect(relay).await.unwrap();
                    tokio::spawn(answer(Arc::clone(&socket), Arc::clone(&front), client, Arc::clone(&log)));
                    new.insert(socket)
                }
            };
            socket.send(&buffer[..length]).await.ok();
        }
    });
    at
}

async fn answer(behind: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr, log: Arc<Mutex<Log>>) {
    let mut buffer = [0; 2048];
    while let Ok(length) = behind.recv(&mut buffer).await {
        let data = buffer[..length].to_vec();
        log.lock().unwrap().datagrams.push(SeenDatagram { client, received: false, data });
        front.send_to(&buffer[..length], client).await.ok();
    }
}

/// What executes the home service.
struct Driver {
    begun: Instant,
    secret: ServiceSecret,
    addresses: Vec<Vec<u8>>,
    relay: Vec<u8>,
    commands: mpsc::Sender<ServiceCommand>,
    peers: BTreeMap<ClientRef, [u8; 32]>,
    log: Arc<Mutex<Log>>,
}

impl Driver {
    fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        Now { mono_ms, unix_ms: unix_ms() }
    }

    async fn run(
        mut self,
        config: Config,
        mut events: mpsc::Receiver<ServiceEvent>,
        others: Vec<Endpoint>,
        seed: u64,
    ) {
        let mut service = Service::new(config, seed, self.now());
        service.handle_bootstrap(&others, self.now());
        loop {
            self.execute(&mut service).await;
            let now = self.now();
            let wait_ms = service.poll_timeout().map_or(1_000, |at| at.saturating_sub(now.mono_ms));
            match tokio::time::timeout(Duration::from_millis(wait_ms.min(1_000)), events.recv()).await {
                Ok(Some(event)) => self.take(&mut service, event),
                Ok(None) => return,
                Err(_) => service.handle_timeout(self.now()),
            }
        }
    }

    fn take(&mut self, service: &mut Service, event: ServiceEvent) {
        let now = self.now();
        match event {
            ServiceEvent::ClientOpened { client, peer, remote, outbound } => {
                self.peers.insert(ClientRef(client.0), peer);
                service.handle_opened(ClientRef(client.0), peer, remote, outbound, now);
            }
            ServiceEvent::ClientFrame { client, frame } => {
                self.note(ClientRef(client.0), true, &frame);
                service.handle_frame(ClientRef(client.0), frame, now);
            }
            ServiceEvent::ClientClosed { client, .. } => service.handle_closed(ClientRef(client.0), now),
            ServiceEvent::ConnectFailed { service: other, .. } => service.handle_connect_failed(other, now),
            ServiceEvent::Stored { request, copies } => service.handle_stored(request, copies, now),
            ServiceEvent::Found { request, value, done, .. } => {
                service.handle_found(request, value.as_deref(), done, now);
            }
            _ => {}
        }
    }

    async fn execute(&mut self, service: &mut Service) {
        while let Some(command) = service.poll_command() {
            let address = |at: Endpoint| SupernodeAddress { service: at.service, addresses: at.addresses };
            let command = match command {
                Command::Send { client, frame } => {
                    self.note(client, false, &frame);
                    ServiceCommand::SendHome { client: ClientId(client.0), frame }
                }
                Command::Close(client) => ServiceCommand::CloseClient(ClientId(client.0)),
                Command::Expel(device) => ServiceCommand::Expel(device),
                Command::Connect(endpoint) => ServiceCommand::Connect(address(endpoint)),
                Command::AddToRouting(endpoint) => ServiceCommand::AddToRouting(address(endpoint)),
                Command::DhtPut { request, account, value } => {
                    ServiceCommand::Put { request, account, value }
                }
                Command::DhtGet { request, account } => ServiceCommand::Get { request, account },
                Command::SignDescriptor { load_percent } => {
                    let descriptor = self.describe(load_percent);
                    service.handle_own_descriptor(descriptor, self.now());
                    continue;
                }
                Command::RecordRefused { .. }
                | Command::Drained
                | Command::Check(_)
                | Command::Announced { .. }
                | Command::Invited { .. }
                | Command::InvitationAnswered { .. } => continue,
            };
            self.commands.send(command).await.unwrap();
        }
    }

    fn describe(&self, load_percent: u32) -> SupernodeDescriptor {
        let new = NewDescriptor {
            sequence: unix_ms(),
            not_after_s: unix_ms() / 1000 + 10_000,
            roles: Roles(0).with(Roles::DIRECTORY).with(Roles::RELAY),
            addresses: self.addresses.clone(),
            relay: vec![self.relay.clone()],
            load_percent,
            software: "tandem/test".to_owned(),
            echo: None,
        };
        SupernodeDescriptor::issue(&self.secret, new).unwrap()
    }

    fn note(&self, client: ClientRef, received: bool, frame: &HomeFrame) {
        let Some(peer) = self.peers.get(&client) else { return };
        let seen = SeenFrame { peer: *peer, received, frame: frame.clone() };
        self.log.lock().unwrap().frames.push(seen);
    }
}
