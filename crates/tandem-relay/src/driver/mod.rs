//! The sockets of a relay and the threads that serve them: one, until it has more to do than it can. No async runtime.
//!
//! * `udp` datagrams, many for each system call where the system can
//! * `tcp` streams: framing, bounded queues, time-outs
//! * `outbox` what waits for one of them
//! * `pace` when to let packets gather, and when one thread is not enough
//! * `worker` the loop: wait, read a batch, switch it or let the core decide, send a batch

mod outbox;
mod pace;
mod tcp;
mod udp;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use mio::Waker;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use crate::client::Link;
use crate::config::{Config, Rate};
use crate::server::{AllocationInfo, Server, Serving, Stats};

use self::worker::{Inbox, Worker};

/// Adopted connections that wait for the thread to take them.
const ADOPTED_WAITING_MAX: usize = 64;
const UDP_SOCKETS_MAX: usize = 16;
const TCP_LISTENERS_MAX: usize = 16;
/// Packets from other threads for TCP clients, which wait for the first thread.
const PARCELS_WAITING_MAX: usize = 1_024;
/// More threads than this have not been tried.
pub const THREADS_MAX: usize = 8;
/// TCP connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// Where to listen, and how much to let TCP clients cost.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// UDP sockets to open, at most 16. One of IPv6 takes no IPv4: each family has its own.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners of the relay's own, at most 16. Connections can also be handed over with [`Handle::adopt`].
    pub tcp: Vec<SocketAddr>,
    /// Kernel receive and send buffer of each UDP socket in bytes: a pause of the thread must not lose a burst. The
    /// kernel may give less (`net.core.rmem_max`).
    pub socket_buffer_bytes: usize,
    /// TCP connections open at once, in all and from one /24 or /48.
    pub tcp_clients_max: usize,
    pub tcp_clients_per_source_max: usize,
    pub threads: Threads,
    /// A thread has too much to do when it has been busy for this share of each of three seconds ([`Threads::UpTo`]).
    pub busy_share: f64,
}

/// How many threads forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// So many from the start, at most [`THREADS_MAX`].
    Exactly(usize),
    /// One, and one more whenever all there are have had too much to do for some seconds, up to so many.
    UpTo(usize),
}

impl Threads {
    /// One until it is saturated, and no more than the machine has processors.
    #[must_use]
    pub fn as_needed() -> Self {
        Self::UpTo(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn at_start(self) -> usize {
        match self {
            Self::Exactly(threads) => threads.clamp(1, THREADS_MAX),
            Self::UpTo(_) => 1,
        }
    }

    fn most(self) -> usize {
        match self {
            Self::Exactly(threads) | Self::UpTo(threads) => threads.clamp(1, THREADS_MAX),
        }
    }
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            socket_buffer_bytes: 4 << 20,
            tcp_clients_max: 512,
            tcp_clients_per_source_max: 64,
            threads: Threads::as_needed(),
            busy_share: pace::BUSY,
        }
    }
}

/// Why a relay did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("the relay cannot listen on UDP {address}: {source}")]
    BindUdp { address: SocketAddr, source: io::Error },
    #[error("the relay cannot listen on TCP {address}: {source}")]
    BindTcp { address: SocketAddr, source: io::Error },
    #[error("the relay was given {0} UDP addresses to listen on; it takes between 1 and {UDP_SOCKETS_MAX}")]
    UdpSockets(usize),
    #[error("the relay was given {0} TCP addresses to listen on; it takes at most {TCP_LISTENERS_MAX}")]
    TcpListeners(usize),
    #[error("the system refused what the relay needs to start: {0}")]
    System(#[source] io::Error),
}

/// Why a connection was not taken. It is closed.
#[derive(Debug, Error)]
pub enum AdoptError {
    #[error("too many connections are waiting for the relay")]
    Busy,
    #[error("the relay has stopped")]
    Stopped,
}

/// One live allocation, with its age instead of a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocationRow {
    pub info: AllocationInfo,
    pub age: Duration,
}

impl AllocationRow {
    /// "udp" or "tcp".
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match self.info.client.link() {
            Link::Udp(_) => "udp",
            Link::Tcp(_) => "tcp",
        }
    }
}

/// A running relay. Clones name the same one; it stops when told to, or when the last of them goes.
#[derive(Debug, Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    adopt: SyncSender<Adopted>,
    udp: Vec<SocketAddr>,
    tcp: Vec<SocketAddr>,
}

/// What the threads and the handles all touch. The core is locked for what only it can decide; packets of clients that
/// a thread knows are switched without it ([`crate::server::Switch`]).
#[derive(Debug)]
struct Shared {
    server: Mutex<Server>,
    counters: Counters,
    stopping: std::sync::atomic::AtomicBool,
    parcels: SyncSender<Parcel>,
    config: DriverConfig,
    /// Where every thread listens, with the ports the system chose.
    udp: Vec<SocketAddr>,
    /// Whether other threads can open the same ports.
    can_grow: bool,
    threads: Mutex<Vec<Thread>>,
}

#[derive(Debug)]
struct Thread {
    waker: Arc<Waker>,
    handle: JoinHandle<()>,
}

/// What only the sockets know.
#[derive(Debug, Default)]
struct Counters {
    tcp_clients: std::sync::atomic::AtomicUsize,
    unsent: std::sync::atomic::AtomicU64,
}

/// A TCP connection on its way to the thread.
#[derive(Debug)]
struct Adopted {
    stream: TcpStream,
    remote: SocketAddr,
    already_read: Vec<u8>,
}

/// A packet for a TCP client from a thread that has none.
#[derive(Debug)]
struct Parcel {
    connection: u32,
    bytes: Vec<u8>,
}

/// Totals of the core and of the sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverStats {
    pub server: Stats,
    /// TCP connections open.
    pub tcp_clients: usize,
    /// Packets that were to be sent and found no room (a full socket buffer, a slow TCP client).
    pub unsent: u64,
    /// Threads that serve.
    pub threads: usize,
}

/// Opens the sockets and starts the thread. `seed` must come from the system's random generator, fresh at each start.
///
/// # Errors
/// When a socket cannot be opened or the thread cannot start.
pub fn start(driver: &DriverConfig, server: Config, seed: [u8; 32]) -> Result<Handle, StartError> {
    let udp = |&address: &SocketAddr| {
        bind_first_udp(address, driver.threads).map_err(|source| StartError::BindUdp { address, source })
    };
    let tcp =
        |&address: &SocketAddr| bind_tcp(address).map_err(|source| StartError::BindTcp { address, source });
    let udp = driver.udp.iter().map(udp).collect::<Result<Vec<_>, _>>()?;
    let tcp = driver.tcp.iter().map(tcp).collect::<Result<Vec<_>, _>>()?;
    start_on(driver, udp, tcp, server, seed)
}

/// Without IPv4 on an IPv6 socket: `0.0.0.0:P` and `[::]:P` can be given together, and clients keep their own family.
fn bind(address: SocketAddr, kind: Type, protocol: Protocol, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // A port whose last connections are still being forgotten can be listened on again.
        socket.set_reuse_address(true)?;
    }
    #[cfg(target_os = "linux")]
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = is_shared;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One socket of an address that other threads of this process will have too.
fn bind_shared_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    bind(address, Type::DGRAM, Protocol::UDP, true).map(UdpSocket::from)
}

/// The first socket of an address. A port that another relay has, shared among its threads, is not ours to share: so
/// it is opened alone first.
fn bind_first_udp(address: SocketAddr, threads: Threads) -> io::Result<UdpSocket> {
    let alone = UdpSocket::from(bind(address, Type::DGRAM, Protocol::UDP, false)?);
    if threads.most() == 1 || !cfg!(target_os = "linux") {
        return Ok(alone);
    }
    let address = alone.local_addr()?;
    drop(alone);
    bind_shared_udp(address)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bind(address, Type::STREAM, Protocol::TCP, false)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As [`start`], on sockets that are open already: for an embedder that must find free ports itself.
///
/// # Errors
/// When there is no UDP socket, too many of a kind, or the thread cannot start.
pub fn start_on(
    driver: &DriverConfig,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    server: Config,
    seed: [u8; 32],
) -> Result<Handle, StartError> {
    if udp.is_empty() || udp.len() > UDP_SOCKETS_MAX {
        return Err(StartError::UdpSockets(udp.len()));
    }
    if tcp.len() > TCP_LISTENERS_MAX {
        return Err(StartError::TcpListeners(tcp.len()));
    }
    let udp_addresses: Vec<SocketAddr> =
        udp.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>().map_err(StartError::System)?;
    let tcp_addresses =
        tcp.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(StartError::System)?;
    let (parcels, parcels_out) = sync_channel(PARCELS_WAITING_MAX);
    let shared = Arc::new(Shared {
        server: Mutex::new(Server::new(server, seed, worker::now(), unix_s())),
        counters: Counters::default(),
        stopping: std::sync::atomic::AtomicBool::new(false),
        parcels,
        config: driver.clone(),
        udp: udp_addresses.clone(),
        can_grow: udp.iter().all(is_shared),
        threads: Mutex::new(Vec::new()),
    });
    let (adopt, adopted) = sync_channel(ADOPTED_WAITING_MAX);
    let inner = Inner { shared, adopt, udp: udp_addresses, tcp: tcp_addresses };
    let shared = &inner.shared;
    shared.spawn(udp, tcp, Some(Inbox { adopted, parcels: parcels_out })).map_err(StartError::System)?;
    for _ in 1..driver.threads.at_start() {
        shared.spawn_another().map_err(StartError::System)?;
    }
    Ok(Handle { inner: Arc::new(inner) })
}

/// Whether another socket can have the same address.
fn is_shared(socket: &UdpSocket) -> bool {
    #[cfg(target_os = "linux")]
    return socket2::SockRef::from(socket).reuse_port().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    false
}

impl Handle {
    /// Where UDP is served, in the order of [`DriverConfig::udp`], with the ports the system chose for port 0.
    #[must_use]
    pub fn udp_addresses(&self) -> &[SocketAddr] {
        &self.inner.udp
    }

    /// Where the relay's own TCP listeners are, in the order of [`DriverConfig::tcp`].
    #[must_use]
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.inner.tcp
    }

    /// Hands over a TCP connection whose first bytes look like STUN. `already_read` is what the embedder has read of it
    /// (nothing, if it only peeked).
    ///
    /// # Errors
    /// When the relay has stopped, or is so busy that it does not even take connections; the connection is closed.
    pub fn adopt(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        already_read: Vec<u8>,
    ) -> Result<(), AdoptError> {
        let adopted = Adopted { stream, remote, already_read };
        self.inner.adopt.try_send(adopted).map_err(|error| match error {
            TrySendError::Full(_) => AdoptError::Busy,
            TrySendError::Disconnected(_) => AdoptError::Stopped,
        })?;
        self.inner.shared.wake();
        Ok(())
    }

    #[must_use]
    pub fn stats(&self) -> DriverStats {
        use std::sync::atomic::Ordering::Relaxed;
        DriverStats {
            server: self.inner.shared.server().stats(),
            tcp_clients: self.inner.shared.counters.tcp_clients.load(Relaxed),
            unsent: self.inner.shared.counters.unsent.load(Relaxed),
            threads: self.inner.shared.threads().len(),
        }
    }

    /// Every live allocation, oldest first.
    #[must_use]
    pub fn allocations(&self) -> Vec<AllocationRow> {
        let now = worker::now();
        let age = |since| now.saturating_duration_since(since);
        let mut rows: Vec<_> = self
            .inner
            .shared
            .server()
            .allocations()
            .map(|info| AllocationRow { age: age(info.since), info })
            .collect();
        rows.sort_by_key(|row| (row.info.since, row.info.client));
        rows
    }

    /// See [`Server::set_limits`].
    pub fn set_limits(&self, allocations_max: usize, total_rate: Option<Rate>) {
        self.inner.shared.server().set_limits(allocations_max, total_rate);
    }

    /// Refuses new allocations, keeps those there are, and tells their clients. The relay is idle when [`Stats::allocations`] is 0.
    pub fn drain(&self) {
        self.inner.shared.server().set_serving(Serving::Draining, worker::now());
        self.inner.shared.wake();
    }

    /// Takes new allocations again, after a drain or a standby.
    pub fn resume(&self) {
        self.inner.shared.server().set_serving(Serving::Open, worker::now());
    }

    /// Answers Binding requests and nothing else; what there was of allocations is gone ([`Serving::Standby`]).
    pub fn stand_by(&self) {
        self.inner.shared.server().set_serving(Serving::Standby, worker::now());
    }

    /// Whether the thread still serves. It ends by itself only if the system fails it; the log says why.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let threads = self.inner.shared.threads();
        !threads.is_empty() && threads.iter().all(|thread| !thread.handle.is_finished())
    }

    /// Stops the thread, closes every socket and waits until that is done (milliseconds).
    pub fn shutdown(&self) {
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.stopping.store(true, std::sync::atomic::Ordering::Release);
        self.shared.wake();
        // Taken out first: a thread that is about to start another must not wait for us.
        let threads = std::mem::take(&mut *self.shared.threads());
        for thread in threads {
            if thread.handle.join().is_err() {
                tracing::error!("a thread of the relay panicked");
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn server(&self) -> MutexGuard<'_, Server> {
        // A panic of the thread has been logged; numbers may still be read.
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        for thread in self.threads().iter() {
            if let Err(error) = thread.waker.wake() {
                tracing::warn!(%error, "a thread of the relay could not be woken");
            }
        }
    }

    /// Gives a packet to the first thread, which has the TCP clients. `false`: it has too many.
    fn hand_over(&self, parcel: Parcel) -> bool {
        let is_taken = self.parcels.try_send(parcel).is_ok();
        if let Some(first) = self.threads().first()
            && let Err(error) = first.waker.wake()
        {
            tracing::warn!(%error, "the relay's first thread could not be woken");
        }
        is_taken
    }

    fn spawn(
        self: &Arc<Self>,
        udp: Vec<UdpSocket>,
        tcp: Vec<TcpListener>,
        inbox: Option<Inbox>,
    ) -> io::Result<()> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), worker::WAKE)?);
        let mut worker = Worker::new(poll, udp, tcp, &self.config, Arc::clone(self), inbox)?;
        let mut threads = self.threads();
        let is_stopping = self.stopping.load(std::sync::atomic::Ordering::Acquire);
        if is_stopping || threads.len() >= self.config.threads.most() {
            return Ok(());
        }
        let name = format!("tandem-relay-{}", threads.len() + 1);
        let handle = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
        threads.push(Thread { waker, handle });
        Ok(())
    }

    /// One more thread, with sockets of the same addresses: the kernel gives each its share of the clients
    /// (SO_REUSEPORT).
    fn spawn_another(self: &Arc<Self>) -> io::Result<()> {
        if !self.can_grow {
            return Ok(());
        }
        let udp = self.udp.iter().map(|&address| bind_shared_udp(address)).collect::<Result<_, _>>()?;
        self.spawn(udp, Vec::new(), None)
    }

    /// A thread has more to do than it can.
    fn grow(self: &Arc<Self>) {
        if self.threads().len() >= self.config.threads.most() || !self.can_grow {
            return;
        }
        match self.spawn_another() {
            Ok(()) => tracing::info!(threads = self.threads().len(), "the relay has one more thread"),
            Err(error) => tracing::warn!(%error, "the relay is at its limit and cannot start another thread"),
        }
    }
}

/// The time of day, once, at the start: the core counts on from there with the monotonic clock.
fn unix_s() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the driver is where the time comes from")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
