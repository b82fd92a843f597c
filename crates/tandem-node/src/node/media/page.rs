//! Microphone and speaker of a call in a browser page: one thread a call, from when the page wants the call until it is over.
//!
//! It has the sockets and the clock of a [`PageLeg`], one at a time: a page that attaches takes the place of the one before.
//! The call's leg joins it when the call is agreed; before that, and whenever no page is there, what comes is dropped. So a
//! page may come, go and come back without the call noticing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tandem_api::{CallEvent, CallStep, DetachReason, NodeEvent, Problem, SdpKind, SoundAnswer, SoundOffer};
use tandem_media::audio::{Incoming, Outgoing};
use tandem_media::page::{OfferError, PageConfig, PageEnd, PageEvent, PageLeg};
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, mpsc};

use crate::handle::Reply;
use crate::messages::Code;
use crate::node::clock::unix_ms;
use crate::policy::Warden;

/// Commands and packets that may wait for a page's thread, and packets that may wait for the call's leg: over a second.
const QUEUE: usize = 64;
/// Largest datagram that is read.
const READ_BYTES: usize = 2048;
const IDLE: Duration = Duration::from_secs(1);

/// One packet of sound between a page and its call.
#[derive(Debug)]
pub(super) struct PagePacket {
    /// Of the page it came from; 0 for the page.
    pub(super) attachment: u64,
    pub(super) sequence: u64,
    pub(super) rtp_time: u32,
    pub(super) payload: Vec<u8>,
}

impl PagePacket {
    /// What the other end says, for the page.
    pub(super) fn of(packet: Outgoing) -> Self {
        let Outgoing { sequence, rtp_time, payload } = packet;
        Self { attachment: 0, sequence, rtp_time, payload }
    }

    pub(super) fn incoming(&self) -> Incoming<'_> {
        Incoming { sequence: self.sequence, rtp_time: self.rtp_time, payload: &self.payload }
    }
}

/// What is asked of a page's thread.
#[derive(Debug)]
enum PageCommand {
    Attach {
        call: String,
        offer: String,
        lan: Option<IpAddr>,
        reply: Reply<SoundAnswer>,
    },
    /// That attachment, or whichever there is.
    Detach(Option<u64>),
    /// Where the page's sound goes from now on.
    Join(mpsc::Sender<PagePacket>),
    Sound(PagePacket),
}

/// A page's place in a call. When the last copy is dropped, the thread ends.
#[derive(Clone)]
pub(crate) struct PageSound {
    commands: mpsc::Sender<PageCommand>,
    /// Which attachment holds the sound; 0 for none.
    attached: Arc<AtomicU64>,
}

impl fmt::Debug for PageSound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSound({:?})", self.attachment())
    }
}

impl PartialEq for PageSound {
    fn eq(&self, other: &Self) -> bool {
        self.commands.same_channel(&other.commands)
    }
}

impl Eq for PageSound {}

impl PageSound {
    /// Starts the thread. What pages come and go is announced among `events`.
    pub(crate) fn spawn(events: broadcast::Sender<NodeEvent>, warden: Warden) -> std::io::Result<Self> {
        let (commands, queue) = mpsc::channel(QUEUE);
        let attached = Arc::new(AtomicU64::new(0));
        let place = Place {
            events,
            warden,
            attached: Arc::clone(&attached),
            call: String::new(),
            count: 0,
            page: None,
            outlet: None,
        };
        std::thread::Builder::new().name("page sound".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(place.run(queue)),
                Err(error) => tracing::error!(%error, "no page can be heard"),
            }
        })?;
        Ok(Self { commands, attached })
    }

    /// A page wants to be heard in this call; it is answered by the thread.
    pub(crate) fn attach(
        &self,
        call: String,
        offer: SoundOffer,
        lan: Option<IpAddr>,
        reply: Reply<SoundAnswer>,
    ) {
        let command = PageCommand::Attach { call, offer: offer.sdp, lan, reply };
        // Dropped with its reply, it tells the asker that nobody answers.
        if let Err(mpsc::error::TrySendError::Full(PageCommand::Attach { reply, .. })) =
            self.commands.try_send(command)
        {
            drop(reply.send(Err(Code::NodeBusy.problem())));
        }
    }

    /// False when the thread is too busy to hear it, or gone.
    pub(crate) fn detach(&self, attachment: Option<u64>) -> bool {
        self.commands.try_send(PageCommand::Detach(attachment)).is_ok()
    }

    /// Which attachment holds the sound now.
    pub(crate) fn attachment(&self) -> Option<u64> {
        Some(self.attached.load(Ordering::Relaxed)).filter(|attachment| *attachment != 0)
    }

    /// The call is agreed: what the page says comes here from now on.
    pub(super) fn join(&self) -> mpsc::Receiver<PagePacket> {
        let (outlet, sound) = mpsc::channel(QUEUE);
        if self.commands.try_send(PageCommand::Join(outlet)).is_err() {
            tracing::warn!("a page's thread does not hear of its call: it stays silent");
        }
        sound
    }

    /// What the other end says. A page that is too slow loses it.
    pub(super) fn send(&self, packet: PagePacket) {
        if self.commands.try_send(PageCommand::Sound(packet)).is_err() {
            tracing::trace!("20 ms of sound did not get to the page");
        }
    }
}

/// The thread's own.
struct Place {
    events: broadcast::Sender<NodeEvent>,
    warden: Warden,
    attached: Arc<AtomicU64>,
    call: String,
    /// Attachments so far; each is named by its number.
    count: u64,
    page: Option<Page>,
    outlet: Option<mpsc::Sender<PagePacket>>,
}

/// The page that holds the sound.
struct Page {
    attachment: u64,
    leg: PageLeg,
    sockets: Vec<UdpSocket>,
}

impl Place {
    async fn run(mut self, mut commands: mpsc::Receiver<PageCommand>) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let now = Instant::now();
            let wake = self.page.as_ref().and_then(|page| page.leg.poll_timeout()).unwrap_or(now + IDLE);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => break,
                },
                (at, from, len) = receive(self.page.as_ref(), &mut buffer) => {
                    if let Some(page) = &mut self.page {
                        page.leg.handle_packet(at, from, &buffer[..len], Instant::now());
                    }
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    if let Some(page) = &mut self.page {
                        page.leg.handle_timeout(Instant::now());
                    }
                }
            }
            self.drain();
        }
        if let Some(page) = self.page.take() {
            page.leave();
        }
    }

    fn take(&mut self, command: PageCommand) {
        match command {
            PageCommand::Attach { call, offer, lan, reply } => {
                self.call = call;
                // Whoever asked may be gone: then the page never comes, which is noticed.
                drop(reply.send(self.attach(&offer, lan)));
            }
            PageCommand::Detach(which) => {
                if self.page.as_ref().is_some_and(|page| which.is_none_or(|which| which == page.attachment)) {
                    self.let_go(DetachReason::Left);
                }
            }
            PageCommand::Join(outlet) => self.outlet = Some(outlet),
            PageCommand::Sound(packet) => {
                if let Some(page) = &mut self.page {
                    page.leg.send(&packet.incoming(), Instant::now());
                }
            }
        }
    }

    fn attach(&mut self, offer: &str, lan: Option<IpAddr>) -> Result<SoundAnswer, Problem> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (mut sockets, mut candidates) = (Vec::new(), Vec::new());
        for ip in [Some(loopback), lan].into_iter().flatten() {
            let (socket, at) = self.open(ip).map_err(|error| {
                Code::PageSound
                    .with(&[("detail", &format!("this machine could not open a socket ({error})"))])
            })?;
            sockets.push(socket);
            candidates.push(at);
        }
        let config = PageConfig { ssrc: rand::random(), rtp_start: rand::random(), candidates };
        let refused = |error: OfferError| Code::SoundOffer.with(&[("detail", &error.to_string())]);
        let (leg, sdp) = PageLeg::answer(offer, &config, Instant::now()).map_err(refused)?;
        // Only now: an offer that cannot be used takes nobody's place.
        self.let_go(DetachReason::Replaced);
        self.count += 1;
        self.page = Some(Page { attachment: self.count, leg, sockets });
        Ok(SoundAnswer { kind: SdpKind::Answer, sdp, attachment: self.count })
    }

    fn open(&self, ip: IpAddr) -> std::io::Result<(UdpSocket, SocketAddr)> {
        let socket = self.warden.bind(ip, std::net::UdpSocket::bind)?;
        socket.set_nonblocking(true)?;
        let at = socket.local_addr()?;
        Ok((UdpSocket::from_std(socket)?, at))
    }

    /// Sends what is to be sent, and hears what the page said.
    fn drain(&mut self) {
        let Some(page) = &mut self.page else { return };
        page.flush();
        let mut ended = None;
        while let Some(event) = page.leg.poll_event() {
            match event {
                PageEvent::Connected => {
                    self.attached.store(page.attachment, Ordering::Relaxed);
                    announce(
                        &self.events,
                        &self.call,
                        CallStep::SoundAttached { attachment: page.attachment },
                    );
                }
                PageEvent::Opus { sequence, rtp_time, payload } => {
                    let attachment = page.attachment;
                    let packet = PagePacket { attachment, sequence, rtp_time, payload };
                    // Before the call is agreed nobody listens, and a leg that is too slow loses it.
                    if let Some(outlet) = &self.outlet
                        && outlet.try_send(packet).is_err()
                    {
                        tracing::trace!("20 ms of a page's sound were lost");
                    }
                }
                PageEvent::Ended(how) => ended = Some(how),
            }
        }
        match ended {
            Some(PageEnd::Closed) => self.let_go(DetachReason::Closed),
            Some(PageEnd::Silent) => self.let_go(DetachReason::Silent),
            None => {}
        }
    }

    /// The page that is there is no longer heard. One that never came is not spoken of.
    fn let_go(&mut self, reason: DetachReason) {
        let Some(page) = self.page.take() else { return };
        let attachment = page.attachment;
        page.leave();
        if self.attached.swap(0, Ordering::Relaxed) == attachment {
            announce(&self.events, &self.call, CallStep::SoundDetached { attachment, reason });
        }
    }
}

impl Page {
    fn flush(&mut self) {
        while let Some(transmit) = self.leg.poll_transmit() {
            let socket =
                self.sockets.iter().find(|socket| socket.local_addr().is_ok_and(|at| at == transmit.from));
            // What the system does not take is lost, as on any network.
            if let Some(Err(error)) = socket.map(|socket| socket.try_send_to(&transmit.data, transmit.to)) {
                tracing::trace!(%error, "a packet did not get to the page");
            }
        }
    }

    /// Tells it, if it is still there.
    fn leave(mut self) {
        self.leg.close(Instant::now());
        self.flush();
    }
}

/// The next datagram: where it came to, from whom, how long. Never, while there is no page.
async fn receive(page: Option<&Page>, buffer: &mut [u8]) -> (SocketAddr, SocketAddr, usize) {
    let Some(page) = page else { return std::future::pending().await };
    loop {
        let readable = page.sockets.iter().map(|socket| Box::pin(socket.readable()));
        let (_, index, _) = futures::future::select_all(readable).await;
        let Some(socket) = page.sockets.get(index) else { continue };
        // A failed one brings back an error of something sent before: the page may be gone, which is noticed elsewhere.
        if let (Ok((len, from)), Ok(at)) = (socket.try_recv_from(buffer), socket.local_addr()) {
            return (at, from, len);
        }
    }
}

fn announce(events: &broadcast::Sender<NodeEvent>, call: &str, step: CallStep) {
    let event = CallEvent { call: call.to_owned(), at_unix_ms: unix_ms(), step };
    // Nobody may be listening.
    drop(events.send(NodeEvent::Call(event)));
}
