//! One leg's thread: sockets, session, endpoint, in short steps.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tandem_media::audio::Incoming;
use tandem_media::audio::endpoint::{Endpoint, EndpointEvent};
use tandem_media::session::{Candidate, CandidateKind, Event, Session, SocketCommand};
use tokio::sync::{mpsc, oneshot};

use super::page::{PagePacket, PageSound};
use super::report::MediaReport;
use super::sockets::{SocketInput, Sockets};
use super::{EndpointPlan, MediaCommand, MediaNews, MediaNewsKind, MediaPlan, MediaSnapshot};
use crate::node::clock::unix_ms;
use crate::node::port_mapping::MappingWanted;
use crate::platform::network::{Change, Network, is_unique_local};
use crate::tap;

/// Datagrams that may wait to be handled: over a second of two mirrored paths.
const INPUT_QUEUE: usize = 256;
/// Inputs handled before the timers get their turn.
const INPUTS_A_TURN: usize = 32;
/// Packets of sound kept for an endpoint that is about to open: 200 ms.
const EARLY_MAX: usize = 10;
/// Addresses a router may give one port before they are looked at.
const MAPPED_MAX: usize = 4;
const IDLE: Duration = Duration::from_secs(1);

/// Runs a leg until it is stopped or its handle is dropped.
pub(super) fn run(plan: MediaPlan, commands: mpsc::Receiver<MediaCommand>, news: mpsc::Sender<MediaNews>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (phone, leg, failed) = (plan.phone, plan.leg, news.clone());
    let result = match runtime {
        Ok(runtime) => {
            let run = || runtime.block_on(Leg::begin(plan, news).run(commands));
            catch_unwind(AssertUnwindSafe(run))
                .map_err(|_| "the call's thread failed: this is a fault of ours".to_owned())
        }
        Err(error) => Err(format!("this machine could not start the call's thread: {error}")),
    };
    if let Err(why) = result {
        // Else the call would go on for ever without sound. Nobody listens any more when the node is ending.
        drop(failed.blocking_send(MediaNews { phone, leg, what: MediaNewsKind::Failed(why) }));
    }
}

/// One packet of sound that has come.
struct Sound {
    sequence: u64,
    rtp_time: u32,
    payload: Vec<u8>,
    arrival: Instant,
}

impl Sound {
    fn incoming(&self) -> Incoming<'_> {
        Incoming { sequence: self.sequence, rtp_time: self.rtp_time, payload: &self.payload }
    }
}

struct Leg {
    plan: MediaPlan,
    session: Session,
    session_unix_ms: u64,
    endpoint: Option<Endpoint>,
    /// Where the endpoint is a page: for it, and of it.
    page: Option<(PageSound, mpsc::Receiver<PagePacket>)>,
    /// The call is agreed, the connection does not stand yet: what is played must not begin before.
    agreed: Option<EndpointPlan>,
    /// Sound that came before the endpoint was opened: the other end heard of the agreement first.
    early: VecDeque<Sound>,
    begin_unix_ms: u64,
    /// The other end has shown a unique local address (RFC 4193): ours may be of use too.
    peer_has_unique_local: bool,
    /// The socket that a router is asked to forward a port to, and what the router says.
    mapping: Option<(SocketAddr, mpsc::Receiver<SocketAddr>)>,
    sockets: Sockets,
    input: mpsc::Receiver<SocketInput>,
    news: mpsc::Sender<MediaNews>,
}

impl Leg {
    fn begin(plan: MediaPlan, news: mpsc::Sender<MediaNews>) -> Self {
        let (input_tx, input) = mpsc::channel(INPUT_QUEUE);
        // Both clocks at one moment: the session makes a certificate first, which takes a while.
        let (session_unix_ms, began) = (unix_ms(), Instant::now());
        let session = Session::new(plan.session.clone(), began);
        let sockets = Sockets::new(plan.bind, plan.warden.clone(), input_tx);
        Self {
            plan,
            session,
            session_unix_ms,
            endpoint: None,
            page: None,
            agreed: None,
            early: VecDeque::new(),
            begin_unix_ms: 0,
            peer_has_unique_local: false,
            mapping: None,
            sockets,
            input,
            news,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<MediaCommand>) {
        self.tell(MediaNewsKind::Prepared(self.session.local_description()));
        self.offer_hosts(Instant::now());
        loop {
            self.drain().await;
            let wake = tokio::time::Instant::from_std(self.wake());
            tokio::select! {
                biased;
                // First: the node says little, and a flood of datagrams must not keep a call from ending.
                command = commands.recv() => match command {
                    Some(MediaCommand::Stop(reply)) => {
                        self.stop(reply).await;
                        self.linger().await;
                        return;
                    }
                    Some(command) => self.take_command(command),
                    None => return,
                },
                input = self.input.recv() => self.take_inputs(input),
                packet = of_page(&mut self.page) => self.take_page(&packet),
                (local, external) = mapped(&mut self.mapping) => {
                    self.session.add_mapped(local, external, Instant::now());
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            self.run_timers(Instant::now());
        }
    }

    fn wake(&mut self) -> Instant {
        let endpoint = self.endpoint.as_ref().and_then(Endpoint::poll_timeout);
        let now = Instant::now();
        let idle = now + IDLE;
        [self.session.poll_timeout(now), endpoint].into_iter().flatten().min().unwrap_or(idle).min(idle)
    }

    fn take_inputs(&mut self, first: Option<SocketInput>) {
        self.take_input(first);
        for _ in 1..INPUTS_A_TURN {
            let Ok(input) = self.input.try_recv() else { break };
            self.take_input(Some(input));
        }
    }

    fn take_input(&mut self, input: Option<SocketInput>) {
        match input {
            Some(SocketInput::Opened { id, local }) => self.session.handle_socket(id, local, Instant::now()),
            Some(SocketInput::Data { id, from, data, arrival }) => {
                tap::Stream::new("media", &from).received(&data);
                self.sockets.note_received(id, from, data.len());
                self.session.handle_packet(id, from, &data, arrival);
            }
            Some(SocketInput::Unreachable { id }) => self.session.handle_unreachable(id, Instant::now()),
            Some(SocketInput::Closed { id, reason }) => {
                self.session.handle_socket_closed(id, &reason, Instant::now());
            }
            None => {}
        }
    }

    fn take_command(&mut self, command: MediaCommand) {
        let now = Instant::now();
        match command {
            MediaCommand::RemoteDescription(description) => {
                if let Err(error) = self.session.handle_remote_description(&description, now) {
                    self.tell(MediaNewsKind::Failed(error.to_string()));
                }
            }
            MediaCommand::AddRelay(access) => {
                let relay = access.service;
                match self.session.add_relay(access, now) {
                    Ok(()) => {}
                    Err(error) => self.tell(MediaNewsKind::Session(Event::RelayFailed {
                        relay,
                        reason: error.to_string(),
                        retry_after: None,
                    })),
                }
            }
            MediaCommand::RemoteCandidate(candidate) => self.take_candidate(&candidate, now),
            MediaCommand::Network(network, change) => self.take_network(network, change, now),
            MediaCommand::RemotePathReport(report) => self.session.handle_path_report(&report, now),
            MediaCommand::Start(plan) => self.start(plan, now),
            MediaCommand::Snapshot(reply) => {
                let stats = self.session.stats(now);
                // Whoever asked may have stopped waiting.
                drop(reply.send(MediaSnapshot { stats, session_unix_ms: self.session_unix_ms }));
            }
            MediaCommand::Stop(_) => unreachable!("handled by the caller"),
        }
    }

    /// This machine's addresses, for direct paths: none is even opened where the other end may not learn them.
    fn offer_hosts(&mut self, now: Instant) {
        if self.plan.direct {
            for host in self.hosts() {
                self.session.add_host(host, now);
            }
        }
    }

    /// Addresses that sound can leave from.
    fn hosts(&self) -> Vec<IpAddr> {
        match self.plan.bind {
            Some(ip) => vec![ip],
            None => self.plan.network.hosts(self.peer_has_unique_local),
        }
    }

    fn take_candidate(&mut self, candidate: &Candidate, now: Instant) {
        // A relayed candidate is a place inside a relay.
        let direct = candidate.kind != CandidateKind::Relayed;
        if direct && self.plan.warden.may_go_direct(candidate.addr).is_err() {
            return;
        }
        let shown = candidate.kind == CandidateKind::Host && is_unique_local(candidate.addr.ip());
        if shown && !self.peer_has_unique_local {
            self.peer_has_unique_local = true;
            self.offer_hosts(now);
        }
        self.session.handle_remote_candidate(candidate, now);
    }

    fn take_network(&mut self, network: Network, change: Change, now: Instant) {
        self.plan.network = network;
        if matches!(change, Change::Moved | Change::Down) {
            let hosts = self.hosts();
            self.session.handle_network_changed(&hosts, now);
        }
        self.offer_hosts(now);
    }

    /// A socket for direct paths is open. The router is asked for a port to the one that the machine leaves by.
    fn want_mapping(&mut self, local: SocketAddr) {
        if Some(local.ip()) == self.plan.network.mappable() {
            let (told, mapped) = mpsc::channel(MAPPED_MAX);
            self.plan.ports.want(MappingWanted { local, told });
            self.mapping = Some((local, mapped));
        }
    }

    /// Opens microphone and speaker, once the call is agreed and the connection stands.
    fn start(&mut self, plan: EndpointPlan, now: Instant) {
        if self.endpoint.is_some() {
            return;
        }
        if !self.session.is_connected() {
            self.agreed = Some(plan);
            return;
        }
        let rtp_start: u32 = rand::random();
        match plan.open(rtp_start, now) {
            Ok(mut endpoint) => {
                for early in self.early.drain(..) {
                    endpoint.handle_packet(&early.incoming(), early.arrival);
                }
                self.endpoint = Some(endpoint);
                self.page = plan.page().map(|page| (page.clone(), page.join()));
                self.begin_unix_ms = unix_ms();
            }
            Err(why) => self.tell(MediaNewsKind::EndpointTrouble(why)),
        }
    }

    fn take_page(&mut self, packet: &PagePacket) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.handle_page(packet.attachment, &packet.incoming(), Instant::now());
        }
    }

    fn run_timers(&mut self, now: Instant) {
        if self.session.poll_timeout(now).is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        if let Some(endpoint) = &mut self.endpoint
            && endpoint.poll_timeout().is_some_and(|at| at <= now)
        {
            endpoint.handle_timeout(now);
        }
    }

    /// Everything that is ready to go goes: sound, sockets, datagrams, news.
    async fn drain(&mut self) {
        let now = Instant::now();
        self.send_sound(now);
        while let Some(event) = self.session.poll_event() {
            self.take_event(event);
        }
        self.send_sound(now);
        self.drain_network().await;
    }

    async fn drain_network(&mut self) {
        // A farewell goes out before its socket is closed.
        while let Some(transmit) = self.session.poll_transmit() {
            self.sockets.send(transmit);
        }
        while let Some(command) = self.session.poll_command() {
            match command {
                SocketCommand::Open { id, kind } => {
                    let opened = self.sockets.open(id, kind).await;
                    self.take_input(opened);
                }
                SocketCommand::Close { id } => self.sockets.close(id),
            }
        }
    }

    fn send_sound(&mut self, now: Instant) {
        let Some(endpoint) = &mut self.endpoint else { return };
        while let Some(packet) = endpoint.poll_transmit() {
            // Before the connection stands, what is said is lost: nobody speaks before hearing the other.
            if let Err(error) = self.session.send_opus(&packet.payload, packet.rtp_time, now) {
                tracing::trace!(%error, "20 ms of sound were not sent");
            }
        }
        while let Some(packet) = endpoint.poll_page() {
            let Some((page, _)) = &self.page else { break };
            page.send(PagePacket::of(packet));
        }
        let mut trouble = Vec::new();
        while let Some(event) = endpoint.poll_event() {
            match event {
                EndpointEvent::SourceFailed(why)
                | EndpointEvent::RecordingFailed(why)
                | EndpointEvent::EncodingFailed(why) => trouble.push(why),
                EndpointEvent::FirstSound(_) | EndpointEvent::SourceEnded => {}
            }
        }
        for why in trouble {
            self.tell(MediaNewsKind::EndpointTrouble(why));
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Opus { seq, rtp_time, payload, arrival } => {
                let sound = Sound { sequence: seq, rtp_time, payload, arrival };
                match &mut self.endpoint {
                    Some(endpoint) => endpoint.handle_packet(&sound.incoming(), arrival),
                    None if self.early.len() < EARLY_MAX => self.early.push_back(sound),
                    None => {}
                }
            }
            Event::Connected => {
                if let Some(plan) = self.agreed.take() {
                    self.start(plan, Instant::now());
                }
                self.tell(MediaNewsKind::Session(Event::Connected));
            }
            Event::Rate { bits_per_second, packet_ms } => {
                let set = self
                    .endpoint
                    .as_mut()
                    .map_or(Ok(()), |endpoint| endpoint.set_rate(bits_per_second, packet_ms));
                if let Err(error) = set {
                    self.tell(MediaNewsKind::EndpointTrouble(error.to_string()));
                }
                self.tell(MediaNewsKind::Session(event));
            }
            event => {
                match &event {
                    Event::HostSocket { local, .. } => self.want_mapping(*local),
                    Event::HostSocketClosed { local, .. } => {
                        // Dropped, the port is given back.
                        self.mapping.take_if(|(mapped, _)| mapped == local);
                    }
                    _ => {}
                }
                self.tell(MediaNewsKind::Session(event));
            }
        }
    }

    async fn stop(&mut self, reply: oneshot::Sender<MediaReport>) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.finish();
        }
        // How paths and relays were, before closing makes all of them closed.
        let report = MediaReport::gather(
            &self.session,
            Instant::now(),
            self.endpoint.as_ref(),
            self.session_unix_ms,
            self.begin_unix_ms,
        );
        self.endpoint = None;
        self.page = None;
        self.mapping = None;
        self.session.end(Instant::now());
        self.drain_network().await;
        // Nobody waits any more when the node is ending.
        drop(reply.send(report));
    }

    /// The call is over for this end; the other one may still have to hear of it.
    async fn linger(&mut self) {
        while !self.session.is_closed() {
            let wake = tokio::time::Instant::from_std(self.wake());
            tokio::select! {
                input = self.input.recv() => self.take_inputs(input),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.run_timers(Instant::now());
            // What happens to it now is nobody's concern any more.
            while self.session.poll_event().is_some() {}
            self.drain_network().await;
        }
    }

    fn tell(&self, what: MediaNewsKind) {
        let news = MediaNews { phone: self.plan.phone, leg: self.plan.leg, what };
        if self.news.try_send(news).is_err() {
            tracing::warn!("the node is too busy to hear news of a call");
        }
    }
}

/// The next packet of a page's sound; never, while there is none.
async fn of_page(page: &mut Option<(PageSound, mpsc::Receiver<PagePacket>)>) -> PagePacket {
    if let Some((_, packets)) = page
        && let Some(packet) = packets.recv().await
    {
        return packet;
    }
    // The page's thread has ended: silence is sent.
    std::future::pending().await
}

/// What the router says about the port it was asked for: the socket's address, and the one outside.
async fn mapped(mapping: &mut Option<(SocketAddr, mpsc::Receiver<SocketAddr>)>) -> (SocketAddr, SocketAddr) {
    if let Some((local, external)) = mapping
        && let Some(external) = external.recv().await
    {
        return (*local, external);
    }
    // Nobody will say anything more.
    std::future::pending().await
}
