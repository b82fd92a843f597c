//! The thread that carries the packets of all wires: epoll over the TAPs, one heap of what is under way, one timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::{Link, Way};
use crate::namespace::Namespace;

/// Packets read from one TAP before the others get their turn.
const BATCH: usize = 32;
const EVENTS: usize = 64;
/// An Ethernet frame with a full IP packet, and room for what interfaces with a larger MTU send.
const FRAME_BYTES_MAX: usize = 65_600;
const TIMER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// One wire to be: the TAP of the customer's side, that of the network's side, and the link that rules it.
#[derive(Debug)]
pub(crate) struct WirePlan<'a> {
    pub(crate) customer: (&'a Namespace, String),
    pub(crate) network: (&'a Namespace, String),
    pub(crate) link: Link,
}

/// The running thread. Dropping it ends it, and with it the TAPs.
#[derive(Debug)]
pub(crate) struct Engine {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Stop {
    wake: EventFd,
    asked: AtomicBool,
}

impl Engine {
    /// Makes the TAPs in their namespaces and begins to carry packets.
    ///
    /// # Errors
    /// When `/dev/net/tun` cannot be used.
    pub(crate) fn start(wires: &[WirePlan<'_>]) -> Result<Self> {
        let stop =
            Arc::new(Stop { wake: EventFd::new().context("no eventfd")?, asked: AtomicBool::new(false) });
        let mut carrier = Carrier::new(Arc::clone(&stop))?;
        for wire in wires {
            let customer = Arc::new(open_tap(wire.customer.0, &wire.customer.1)?);
            let network = Arc::new(open_tap(wire.network.0, &wire.network.1)?);
            carrier.add(Arc::clone(&customer), Arc::clone(&network), wire.link.clone(), Way::Up)?;
            carrier.add(network, customer, wire.link.clone(), Way::Down)?;
        }
        let thread = std::thread::Builder::new()
            .name("lab-wires".into())
            .spawn(move || carrier.run())
            .context("cannot start the thread of the wires")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::Release);
        // Fails only when the counter is full, and then the thread is awake anyway.
        self.stop.wake.write(1).ok();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            thread.join().ok();
        }
    }
}

/// Opens a TAP as the interface `name` of a namespace. It exists as long as the device is open.
fn open_tap(namespace: &Namespace, name: &str) -> Result<SyncDevice> {
    let made = namespace.enter(|| DeviceBuilder::new().name(name).layer(Layer::L2).build_sync())?;
    let device = made.with_context(|| {
        format!("cannot make the TAP {name} of {} (is /dev/net/tun there?)", namespace.name())
    })?;
    let flags = OFlag::from_bits_retain(fcntl(fd(&device), FcntlArg::F_GETFL)?);
    fcntl(fd(&device), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(device)
}

fn fd(device: &SyncDevice) -> BorrowedFd<'_> {
    device.as_fd()
}

/// One direction of one wire.
struct Lane {
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    link: Link,
    way: Way,
}

/// A packet under way; ordered by when it is due, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    order: u64,
    lane: usize,
    frame: Vec<u8>,
}

struct Carrier {
    epoll: Epoll,
    timer: TimerFd,
    stop: Arc<Stop>,
    lanes: Vec<Lane>,
    under_way: BinaryHeap<Reverse<Packet>>,
    order: u64,
    /// What the timer is set to.
    alarm: Option<Instant>,
}

impl Carrier {
    fn new(stop: Arc<Stop>) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("no epoll")?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("no timerfd")?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        epoll.add(stop.wake.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self {
            epoll,
            timer,
            stop,
            lanes: Vec::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            alarm: None,
        })
    }

    fn add(&mut self, from: Arc<SyncDevice>, to: Arc<SyncDevice>, link: Link, way: Way) -> Result<()> {
        let token = self.lanes.len() as u64;
        self.epoll.add(fd(&from), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        self.lanes.push(Lane { from, to, link, way });
        Ok(())
    }

    fn run(mut self) {
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let mut events = [EpollEvent::empty(); EVENTS];
        while !self.stop.asked.load(Ordering::Acquire) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            for event in &events[..ready] {
                match event.data() {
                    TIMER => {
                        // Nothing to read means that it was set anew meanwhile.
                        self.timer.wait().ok();
                        self.alarm = None;
                    }
                    WAKE => {}
                    lane => self.read(usize::try_from(lane).unwrap_or(usize::MAX), &mut buffer),
                }
            }
            self.deliver(Instant::now());
            self.set_alarm();
        }
    }

    fn read(&mut self, at: usize, buffer: &mut [u8]) {
        let Some(lane) = self.lanes.get(at) else { return };
        let mut direction = lane.link.lock(lane.way);
        for _ in 0..BATCH {
            let Ok(bytes) = unistd::read(fd(&lane.from), buffer) else { return };
            let now = Instant::now();
            let Some(due) = direction.handle(bytes, now) else { continue };
            if due <= now && direction.under_way == 0 {
                send(&lane.to, &buffer[..bytes]);
                continue;
            }
            direction.under_way += 1;
            self.order += 1;
            let packet = Packet { due, order: self.order, lane: at, frame: buffer[..bytes].to_vec() };
            self.under_way.push(Reverse(packet));
        }
    }

    fn deliver(&mut self, now: Instant) {
        while self.under_way.peek().is_some_and(|Reverse(packet)| packet.due <= now) {
            let Some(Reverse(packet)) = self.under_way.pop() else { return };
            let Some(lane) = self.lanes.get(packet.lane) else { continue };
            lane.link.lock(lane.way).under_way -= 1;
            send(&lane.to, &packet.frame);
        }
    }

    fn set_alarm(&mut self) {
        let next = self.under_way.peek().map(|Reverse(packet)| packet.due);
        if next == self.alarm {
            return;
        }
        self.alarm = next;
        let Some(next) = next else { return };
        // Zero would disarm the timer.
        let wait = next.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(wait));
        if self.timer.set(once, TimerSetTimeFlags::empty()).is_err() {
            // A timer that cannot be set would leave packets lying: look again at once.
            self.alarm = None;
        }
    }
}

fn send(to: &SyncDevice, frame: &[u8]) {
    // An interface that is down takes nothing: as on a line whose other end is unplugged.
    unistd::write(fd(to), frame).ok();
}
