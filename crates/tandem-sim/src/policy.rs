//! The seam between the world and the rules that a leaf follows: those of `tandem-core`, or others to compare with.

use tandem_core::homes::{Cause, Command, Distrust, Homes, Remembered};
use tandem_core::peer::{KnownPeer, PeerRef};
use tandem_core::time::Now;

/// How a leaf looks for its homes and keeps them. As [`Homes`], whose documentation holds.
pub trait LeafPolicy: Sized {
    /// What supernodes do under these rules when they have too much to do.
    const SUPERNODES: SupernodeRules;

    fn new(seed: u64, now: Now) -> Self;
    fn handle_known(&mut self, known: &[KnownPeer], now: Now);
    fn handle_remembered(&mut self, known: &[(KnownPeer, Remembered)], now: Now);
    fn set_load(&mut self, peer: PeerRef, load_percent: u32);
    fn handle_opened(&mut self, peer: PeerRef, rtt_ms: u32, now: Now);
    fn handle_reserved(&mut self, peer: PeerRef, now: Now);
    fn handle_closed(&mut self, peer: PeerRef, now: Now);
    fn handle_silent(&mut self, peer: PeerRef, now: Now);
    fn handle_busy(&mut self, peer: PeerRef, retry_ms: u32, now: Now);
    fn handle_drain(&mut self, peer: PeerRef, within_ms: u32, now: Now);
    fn handle_distrust(&mut self, peer: PeerRef, reason: Distrust, now: Now);
    fn handle_ask_refused(&mut self, retry_ms: u32, now: Now);
    fn handle_published(&mut self, via: PeerRef, now: Now);
    fn handle_publish_failed(&mut self, via: PeerRef, retry_ms: u32, now: Now);
    fn handle_timeout(&mut self, now: Now);
    fn set_in_call(&mut self, in_call: bool, now: Now);
    fn poll_command(&mut self) -> Option<Command>;
    fn poll_timeout(&self) -> Option<u64>;
    fn reserved(&self) -> impl Iterator<Item = PeerRef>;
    fn remembered(&self) -> impl Iterator<Item = Remembered>;
    /// How long until a home that vanished is missed: from the last sign of life, and its answer.
    fn beats(in_call: bool) -> (u64, u64);
}

/// What a supernode does when it has too much to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SupernodeRules {
    /// It sheds, by `tandem_core::admission`, and the network recruits by `tandem_core::election`.
    Shed,
    /// It answers until it cannot, then shuts itself down for a while; nobody is recruited.
    ShutDown,
}

impl LeafPolicy for Homes {
    const SUPERNODES: SupernodeRules = SupernodeRules::Shed;

    fn new(seed: u64, now: Now) -> Self {
        Self::without_beats(seed, now)
    }

    fn handle_known(&mut self, known: &[KnownPeer], now: Now) {
        self.handle_known(known, now);
    }

    fn handle_remembered(&mut self, known: &[(KnownPeer, Remembered)], now: Now) {
        self.handle_remembered(known, now);
    }

    fn set_load(&mut self, peer: PeerRef, load_percent: u32) {
        self.set_load(peer, load_percent);
    }

    fn handle_opened(&mut self, peer: PeerRef, rtt_ms: u32, now: Now) {
        self.handle_opened(peer, Some(rtt_ms), now);
    }

    fn handle_reserved(&mut self, peer: PeerRef, now: Now) {
        let (beat_ms, _) = tandem_core::homes::beats(false);
        self.handle_reserved(peer, u32::try_from(beat_ms).unwrap_or(u32::MAX), now);
    }

    fn handle_closed(&mut self, peer: PeerRef, now: Now) {
        self.handle_closed(peer, Cause::Lost, now);
    }

    fn handle_silent(&mut self, peer: PeerRef, now: Now) {
        self.handle_silent(peer, now);
    }

    fn handle_busy(&mut self, peer: PeerRef, retry_ms: u32, now: Now) {
        self.handle_busy(peer, retry_ms, now);
    }

    fn handle_drain(&mut self, peer: PeerRef, within_ms: u32, now: Now) {
        self.handle_drain(peer, within_ms, now);
    }

    fn handle_distrust(&mut self, peer: PeerRef, reason: Distrust, now: Now) {
        self.handle_distrust(peer, reason, now);
    }

    fn handle_ask_refused(&mut self, retry_ms: u32, now: Now) {
        self.handle_ask_refused(retry_ms, now);
    }

    fn handle_published(&mut self, via: PeerRef, now: Now) {
        self.handle_published(via, now);
    }

    fn handle_publish_failed(&mut self, via: PeerRef, retry_ms: u32, now: Now) {
        self.handle_publish_failed(via, retry_ms, now);
    }

    fn handle_timeout(&mut self, now: Now) {
        self.handle_timeout(now);
    }

    fn set_in_call(&mut self, in_call: bool, now: Now) {
        self.set_in_call(in_call, now);
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.poll_command()
    }

    fn poll_timeout(&self) -> Option<u64> {
        self.poll_timeout()
    }

    fn reserved(&self) -> impl Iterator<Item = PeerRef> {
        self.reserved()
    }

    fn remembered(&self) -> impl Iterator<Item = Remembered> {
        self.remembered()
    }

    fn beats(in_call: bool) -> (u64, u64) {
        tandem_core::homes::beats(in_call)
    }
}
