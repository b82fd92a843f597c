//! What a circuit relay sees of the signalling it carries: a relay with a tap on every stream, whose bytes are parsed
//! and held field by field against the table in `spec/overlay.md`.

#![expect(clippy::unwrap_used, reason = "a test ends where something it needs is missing")]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, StreamExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, Transport as _, noise, relay, tcp, yamux};
use prost::Message;
use tandem_node::overlay::{DeviceCommand, DeviceEvent, SignalId, SupernodeAddress};
use tandem_proto::identity::ServiceSecret;
use tandem_proto::ids::ServiceKey;
use tandem_proto::multiaddr::{Transport, TransportAddress};
use tandem_proto::wire::{
    Candidate, Candidates, MediaDescription, Offer, Ringing, SignalFrame, SignalHello, Signed, signal_frame,
};

use crate::overlay_world::{Device, free_port, loopback, network, next};

const TAP: u8 = 171;
const ALICE: u8 = 172;
const BOB: u8 = 173;
/// More than a stream of this test carries.
const RECORDED_BYTES: usize = 128 * 1024;

const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";
const STOP: &str = "/libp2p/circuit/relay/0.2.0/stop";
// circuit-v2 specification, "Complete protobuf": types and status
const HOP_RESERVE: Value = Value::Number(0);
const HOP_CONNECT: Value = Value::Number(1);
const HOP_STATUS: Value = Value::Number(2);
const STOP_CONNECT: Value = Value::Number(0);
const STOP_STATUS: Value = Value::Number(1);
const OK: Value = Value::Number(100);

const ALICE_ACCOUNT: [u8; 32] = *b"\xa1the account key of alice's\xfe\xdc\xba\x98\x76";
const BOB_ACCOUNT: [u8; 32] = *b"\xb0the account key of bob's dev\x12\x34\x56";
const CALL_ID: [u8; 16] = *b"\xc1call id of 16 b";
const LEG_SECRET: [u8; 32] = *b"\x1ethe secret of this leg, 32 byte";
const FINGERPRINT: [u8; 32] = *b"\xf1fingerprint of a certificate ..";
const NONCE: [u8; 32] = *b"\x90the nonce of the callee's draw.";
const NAME: &str = "Alice Example";
const UFRAG: &str = "ufrag-Qm3w";
const PASSWORD: &str = "ice-password-x7Yk2LmN0pQr";
const SOFTWARE: &str = "tandem/captured";
const CANDIDATE: [u8; 16] = *b"\x20\x01\x0d\xb8address here";

// ---- the test -----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circuit_relay_sees_two_keys_and_ciphertext() {
    let tap = Tap::start().await;
    let (mut alice, mut bob) = (Device::start(ALICE), Device::start(BOB));
    settle(&mut alice, &tap).await;
    settle(&mut bob, &tap).await;
    let (from, to) = open_signal(&mut alice, &mut bob, &tap).await;
    let [said, answered] = conversation();
    for frame in said {
        pass(&alice, from, &mut bob, to, frame).await;
    }
    for frame in answered {
        pass(&bob, to, &mut alice, from, frame).await;
    }

    let streams = tap.streams();
    assert_eq!(streams.len(), 6, "a home and a reservation each, and the two halves of the circuit");
    for device in [ALICE, BOB] {
        check_home(&find(&streams, device, &network().home_protocol(), 0));
        check_reservation(&find(&streams, device, HOP, 0));
    }
    let hop = check_connect(&find(&streams, ALICE, HOP, 1));
    let stop = check_stop(&find(&streams, BOB, STOP, 0));
    // What goes in comes out: there is nothing of the relay's own in it.
    assert!(hop.from_caller.starts_with(&stop.from_caller) && stop.to_caller.starts_with(&hop.to_caller));
    for circuit in [&hop, &stop] {
        check_noise(&circuit.from_caller, &[32, 168]);
        check_noise(&circuit.to_caller, &[200]);
        check_secrets(&circuit.from_caller, &circuit.to_caller);
    }
}

/// The first messages of Noise XX, of these lengths for everybody, and then ciphertext.
fn check_noise(circuit: &[u8], handshake: &[usize]) {
    let mut bytes = Reader(circuit);
    assert_eq!(bytes.line(), "/multistream/1.0.0");
    assert_eq!(bytes.line(), "/noise", "what is readable is found here");
    let frames = bytes.noise_frames();
    let lengths: Vec<usize> = frames.iter().map(|frame| frame.len()).collect();
    assert_eq!(&lengths[..handshake.len()], handshake);
    let ciphertext = &frames[handshake.len()..];
    assert!(ciphertext.len() >= 4, "signalling passed: {lengths:?}");
    // A Poly1305 tag and something under it; and the frames that were sent twice look different.
    assert!(ciphertext.iter().all(|frame| frame.len() > 16), "{lengths:?}");
    let blocks: Vec<&[u8]> = ciphertext.iter().flat_map(|frame| frame.windows(8)).collect();
    assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), blocks.len(), "no eight bytes come twice");
}

fn check_secrets(from_caller: &[u8], to_caller: &[u8]) {
    let said: [&[u8]; 11] = [
        &ALICE_ACCOUNT,
        &BOB_ACCOUNT,
        &CALL_ID,
        &LEG_SECRET,
        &FINGERPRINT,
        &NONCE,
        NAME.as_bytes(),
        UFRAG.as_bytes(),
        PASSWORD.as_bytes(),
        SOFTWARE.as_bytes(),
        &CANDIDATE,
    ];
    let plain: Vec<u8> = conversation().iter().flatten().flat_map(Message::encode_to_vec).collect();
    for secret in said {
        assert!(contains(&plain, secret), "it would be found if it were not encrypted");
    }
    let protocol = network().signal_protocol();
    let (alice, bob) = (public(ALICE), public(BOB));
    let around: [&[u8]; 5] = [&alice, &bob, protocol.as_bytes(), b"/tandem/", b"/yamux"];
    for circuit in [from_caller, to_caller] {
        assert!(contains(circuit, b"/noise"), "the search finds what is there");
        for secret in said.iter().chain(&around) {
            assert!(!contains(circuit, secret), "{:?} is readable", String::from_utf8_lossy(secret));
        }
    }
}

/// Nothing is written on it by a home that never answers.
fn check_home(stream: &Recorded) {
    for direction in [&stream.received, &stream.sent] {
        let mut bytes = Reader(direction);
        bytes.negotiation(&network().home_protocol());
        assert!(bytes.0.is_empty(), "this node's own frames are elsewhere: {:?}", bytes.0);
    }
}

fn check_reservation(stream: &Recorded) {
    let (mut request, mut answer) = (Reader(&stream.received), Reader(&stream.sent));
    request.negotiation(HOP);
    answer.negotiation(HOP);
    assert_eq!(request.message(), [(1, HOP_RESERVE)], "nothing but the wish");
    let answer_fields = answer.message();
    assert_eq!(numbers(&answer_fields), [1, 3, 4, 5], "type, reservation, limit, status");
    assert_eq!((&answer_fields[0].1, &answer_fields[3].1), (&HOP_STATUS, &OK));
    // Of the relay's own making: when it ends, the relay's addresses, and its voucher.
    assert!(numbers(&answer_fields[1].1.message()).iter().all(|field| (1..=3).contains(field)));
    check_limit(&answer_fields[2].1);
    assert!(request.0.is_empty() && answer.0.is_empty());
}

/// What passes through after the messages of the relay.
struct Circuit {
    from_caller: Vec<u8>,
    to_caller: Vec<u8>,
}

fn check_connect(stream: &Recorded) -> Circuit {
    let (mut request, mut answer) = (Reader(&stream.received), Reader(&stream.sent));
    request.negotiation(HOP);
    answer.negotiation(HOP);
    let fields = request.message();
    assert_eq!(numbers(&fields), [1, 2], "type, peer");
    assert_eq!(fields[0].1, HOP_CONNECT);
    assert_eq!(
        fields[1].1.message(),
        [(1, Value::Bytes(peer(BOB).to_bytes()))],
        "the callee's key, no address"
    );
    let fields = answer.message();
    assert_eq!((numbers(&fields), &fields[0].1), (vec![1, 4, 5], &HOP_STATUS), "type, limit, status");
    check_limit(&fields[1].1);
    assert_eq!(fields[2].1, OK);
    Circuit { from_caller: request.0.to_vec(), to_caller: answer.0.to_vec() }
}

fn check_stop(stream: &Recorded) -> Circuit {
    let (mut request, mut answer) = (Reader(&stream.sent), Reader(&stream.received));
    request.negotiation(STOP);
    answer.negotiation(STOP);
    let fields = request.message();
    assert_eq!((numbers(&fields), &fields[0].1), (vec![1, 2, 3], &STOP_CONNECT), "type, peer, limit");
    assert_eq!(
        fields[1].1.message(),
        [(1, Value::Bytes(peer(ALICE).to_bytes()))],
        "the caller's key, no address"
    );
    check_limit(&fields[2].1);
    assert_eq!(answer.message(), [(1, STOP_STATUS), (4, OK)]);
    Circuit { from_caller: request.0.to_vec(), to_caller: answer.0.to_vec() }
}

/// The relay's own: how long, and how many bytes.
fn check_limit(limit: &Value) {
    assert!(numbers(&limit.message()).iter().all(|field| (1..=2).contains(field)));
}

fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

// ---- parsing ------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Value {
    /// Its fields, if it is a message.
    fn message(&self) -> Vec<(u64, Self)> {
        match self {
            Self::Bytes(bytes) => fields(bytes),
            Self::Number(number) => panic!("{number} is not a message"),
        }
    }
}

fn fields(message: &[u8]) -> Vec<(u64, Value)> {
    let mut bytes = Reader(message);
    let mut found = Vec::new();
    while !bytes.0.is_empty() {
        let key = bytes.varint();
        let value = match key & 7 {
            0 => Value::Number(bytes.varint()),
            2 => Value::Bytes(bytes.prefixed().to_vec()),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn numbers(fields: &[(u64, Value)]) -> Vec<u64> {
    fields.iter().map(|field| field.0).collect()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
        }
        panic!("a number without an end")
    }

    fn prefixed(&mut self) -> &'a [u8] {
        let length = self.varint();
        self.take(length.try_into().unwrap())
    }

    fn message(&mut self) -> Vec<(u64, Value)> {
        fields(self.prefixed())
    }

    /// One of multistream-select.
    fn line(&mut self) -> &'a str {
        std::str::from_utf8(self.prefixed()).unwrap().strip_suffix('\n').unwrap()
    }

    fn negotiation(&mut self, protocol: &str) {
        assert_eq!(self.line(), "/multistream/1.0.0");
        assert_eq!(self.line(), protocol);
    }

    /// All there are. The last may still be on its way: all that is seen of it is then a length and less than that.
    fn noise_frames(&mut self) -> Vec<&'a [u8]> {
        let mut frames = Vec::new();
        while let [high, low, rest @ ..] = self.0 {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() < length {
                break;
            }
            self.0 = rest;
            frames.push(self.take(length));
        }
        frames
    }
}

// ---- the devices --------------------------------------------------------------------------------------------------

async fn settle(device: &mut Device, tap: &Tap) {
    device.send(DeviceCommand::OpenHome(tap.address())).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::HomeOpened { .. } => Some(()),
        DeviceEvent::HomeClosed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    device.send(DeviceCommand::Reserve(tap.service)).await;
    next(&mut device.events, |event| match event {
        DeviceEvent::Reserved { .. } => Some(()),
        DeviceEvent::ReservationLost { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
}

async fn open_signal(from: &mut Device, to: &mut Device, tap: &Tap) -> (SignalId, SignalId) {
    let routes = vec![tap.address()];
    from.send(DeviceCommand::OpenSignal { request: 1, device: to.key, routes, race_after_ms: 300 }).await;
    let opened = next(&mut from.events, |event| match event {
        DeviceEvent::SignalOpened { signal, via, .. } => {
            assert_eq!(via, Some(tap.service));
            Some(signal)
        }
        DeviceEvent::SignalFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    let incoming = next(&mut to.events, |event| match event {
        DeviceEvent::SignalIncoming { signal, .. } => Some(signal),
        _ => None,
    });
    (opened, incoming.await)
}

async fn pass(from: &Device, signal: SignalId, to: &mut Device, at: SignalId, frame: SignalFrame) {
    from.send(DeviceCommand::SendSignal { signal, frame: frame.clone() }).await;
    let arrived = next(&mut to.events, |event| match event {
        DeviceEvent::SignalFrame { signal, frame } if signal == at => Some(frame),
        DeviceEvent::SignalClosed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
    assert_eq!(arrived, frame);
}

/// What the caller says, and what the other answers; each says something twice.
fn conversation() -> [[SignalFrame; 4]; 2] {
    [
        [hello(ALICE_ACCOUNT), offer(), candidates(), candidates()],
        [hello(BOB_ACCOUNT), ringing(), candidates(), candidates()],
    ]
    .map(|side| side.map(|body| SignalFrame { body: Some(body) }))
}

fn hello(account: [u8; 32]) -> signal_frame::Body {
    let signed = |name: &[u8]| Signed { payload: [&account, name].concat(), signature: vec![0x5a; 64] };
    signal_frame::Body::Hello(SignalHello {
        version_min: 1,
        version_max: 1,
        software: SOFTWARE.into(),
        certificate: Some(signed(b"certificate")),
        device_set: Some(signed(b"devices")),
        ..SignalHello::default()
    })
}

fn media() -> MediaDescription {
    MediaDescription {
        ice_ufrag: UFRAG.into(),
        ice_pwd: PASSWORD.into(),
        dtls_fingerprint: FINGERPRINT.to_vec(),
        ..MediaDescription::default()
    }
}

fn offer() -> signal_frame::Body {
    signal_frame::Body::Offer(Offer {
        call_id: CALL_ID.to_vec(),
        leg_secret: LEG_SECRET.to_vec(),
        media: Some(media()),
        display_name: NAME.into(),
        ..Offer::default()
    })
}

fn ringing() -> signal_frame::Body {
    let draw_nonce = NONCE.to_vec();
    signal_frame::Body::Ringing(Ringing { draw_nonce, media: Some(media()), ..Ringing::default() })
}

fn candidates() -> signal_frame::Body {
    let candidate = Candidate { address: CANDIDATE.to_vec(), port: 4433, ..Candidate::default() };
    signal_frame::Body::Candidates(Candidates { candidates: vec![candidate; 4], ..Candidates::default() })
}

fn keypair(n: u8) -> Keypair {
    Keypair::ed25519_from_bytes([n; 32]).unwrap()
}

fn peer(n: u8) -> PeerId {
    keypair(n).public().to_peer_id()
}

fn public(n: u8) -> [u8; 32] {
    keypair(n).public().try_into_ed25519().unwrap().to_bytes()
}

// ---- the relay and its tap ----------------------------------------------------------------------------------------

struct Tap {
    service: ServiceKey,
    listen: SocketAddr,
    log: Log,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::Behaviour,
    streams: libp2p_stream::Behaviour,
}

impl Tap {
    /// A circuit relay that takes home streams and says nothing on them.
    async fn start() -> Self {
        let (listen, log) = (free_port(loopback(TAP)), Log::default());
        let mut relay = relay::Behaviour::new(peer(TAP), relay::Config::default());
        relay.set_status(Some(relay::Status::Enable));
        let behaviour = Behaviour { relay, streams: libp2p_stream::Behaviour::new() };
        hold_homes(&behaviour);
        let config =
            swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
        let mut swarm = Swarm::new(transport(log.clone()), behaviour, peer(TAP), config);
        let address: Multiaddr = format!("/ip4/{}/tcp/{}", listen.ip(), listen.port()).parse().unwrap();
        swarm.add_external_address(address.clone());
        swarm.listen_on(address).unwrap();
        while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { service: ServiceSecret::from_seed(&[TAP; 32]).public(), listen, log }
    }

    fn address(&self) -> SupernodeAddress {
        let (ip, port) = (self.listen.ip(), self.listen.port());
        let address = TransportAddress { ip, port, transport: Transport::Tcp };
        SupernodeAddress { service: self.service, addresses: vec![address.to_bytes()] }
    }

    /// What was recorded until now, in the order in which the streams were opened.
    fn streams(&self) -> Vec<Recorded> {
        self.log.0.lock().unwrap().clone()
    }
}

fn hold_homes(behaviour: &Behaviour) {
    let protocol = StreamProtocol::try_from_owned(network().home_protocol()).unwrap();
    let mut homes = behaviour.streams.new_control().accept(protocol).unwrap();
    tokio::spawn(async move {
        while let Some((_, mut stream)) = homes.next().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
}

fn transport(log: Log) -> libp2p::core::transport::Boxed<(PeerId, StreamMuxerBox)> {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&keypair(TAP)).unwrap())
        .multiplex(yamux::Config::default())
        .map(move |(peer, muxer), _| {
            let inner = StreamMuxerBox::new(muxer);
            (peer, StreamMuxerBox::new(TappedMuxer { inner, peer, log: log.clone() }))
        })
        .boxed()
}

/// The `nth` stream of a device with that protocol.
fn find(streams: &[Recorded], device: u8, protocol: &str, nth: usize) -> Recorded {
    let negotiates = |stream: &&Recorded| {
        let mut bytes = Reader(&stream.received);
        stream.peer == peer(device) && bytes.line() == "/multistream/1.0.0" && bytes.line() == protocol
    };
    streams.iter().filter(negotiates).nth(nth).expect("the stream was opened").clone()
}

/// Both directions of one stream, without the encryption between its device and the relay.
#[derive(Debug, Clone)]
struct Recorded {
    peer: PeerId,
    received: Vec<u8>,
    sent: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<Recorded>>>);

struct TappedMuxer {
    inner: StreamMuxerBox,
    peer: PeerId,
    log: Log,
}

impl TappedMuxer {
    fn tap(&self, inner: SubstreamBox) -> TappedStream {
        let mut log = self.log.0.lock().unwrap();
        log.push(Recorded { peer: self.peer, received: Vec::new(), sent: Vec::new() });
        TappedStream { inner, number: log.len() - 1, log: self.log.clone() }
    }
}

impl StreamMuxer for TappedMuxer {
    type Substream = TappedStream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<TappedStream>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_inbound(cx))?;
        Poll::Ready(Ok(self.tap(stream)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<TappedStream>> {
        let stream = ready!(Pin::new(&mut self.inner).poll_outbound(cx))?;
        Poll::Ready(Ok(self.tap(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

struct TappedStream {
    inner: SubstreamBox,
    number: usize,
    log: Log,
}

impl TappedStream {
    fn record(&self, bytes: &[u8], direction: impl FnOnce(&mut Recorded) -> &mut Vec<u8>) {
        let mut log = self.log.0.lock().unwrap();
        let kept = direction(&mut log[self.number]);
        assert!(kept.len() + bytes.len() <= RECORDED_BYTES, "a stream carries more than it should");
        kept.extend_from_slice(bytes);
    }
}

impl AsyncRead for TappedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.record(&buffer[..read], |stream| &mut stream.received);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for TappedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buffer))?;
        self.record(&buffer[..written], |stream| &mut stream.sent);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
