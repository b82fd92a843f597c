//! What comes in: from a socket, through a relay, to the path it came on, to a probe or to the media engine.

use std::net::SocketAddr;
use std::time::Instant;

use super::credit::Sighting;
use super::description::PathName;
use super::probe::{NEVER, Probe, is_probe};
use super::rtc::{is_dtls, is_sound, rtp_time, short_sequence};
use super::thrift::{Sending, Word};
use super::types::{CandidateOrigin, Event, PathId, Route, SocketId};
use super::{Session, Way};

impl Session {
    pub(super) fn take_packet(&mut self, socket: SocketId, from: SocketAddr, data: &[u8], now: Instant) {
        if let Some(index) = self.legs.iter().position(|leg| leg.relay.owns(socket)) {
            let mut inner = Vec::new();
            let leg = &mut self.legs[index];
            leg.relay.handle_packet(socket, from, data, now, &mut |datagram| inner.push(datagram.to_vec()));
            // Before the channel is bound there is no path; what comes then is sent again by the other end.
            let Some(path) = leg.path else { return };
            for datagram in inner {
                self.take_datagram(path, &datagram, now);
            }
        } else if self.direct.owns(socket) && !self.take_reflexive(socket, from, data, now) {
            match self.direct_path(socket, from, data, now) {
                Some(path) => self.take_datagram(path, data, now),
                None => self.rejected += 1,
            }
        }
    }

    /// The direct path a datagram belongs to. One from an unknown address opens a path only with an authentic probe:
    /// a peer-reflexive candidate (RFC 8445 §7.3.1.3).
    fn direct_path(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Option<PathId> {
        if let Some(path) = self.open_way(Way::Direct { socket, remote: from }) {
            return Some(path);
        }
        let probe = Probe::decode(data, &self.local.ice_pwd)?;
        probe.name.is_of_direct().then_some(())?;
        self.open_direct(socket, from, CandidateOrigin::PeerReflexive, now)
    }

    fn take_datagram(&mut self, path: PathId, data: &[u8], now: Instant) {
        if let Some(counts) = self.counts.get_mut(&path) {
            counts.bytes_received += data.len() as u64;
        }
        if is_probe(data) {
            self.take_probe(path, data, now);
        } else if is_sound(data) {
            self.take_sound(path, data, now);
        } else if is_dtls(data) {
            // The handshake has its own protection against copies.
            self.engine.handle_packet(data, now);
            self.drain_engine(now);
        } else {
            self.take_control(path, data, now);
        }
    }

    fn take_probe(&mut self, path: PathId, data: &[u8], now: Instant) {
        let Some(known) = self.paths.get(path) else { return };
        // The other end's name of a direct path is its own choice.
        let fits = |name: PathName| match known.route {
            Route::Direct => name.is_of_direct(),
            Route::Relay { .. } => name == known.name,
        };
        let probe = Probe::decode(data, &self.local.ice_pwd);
        let Some(probe) = probe.filter(|probe| fits(probe.name)) else {
            self.rejected += 1;
            return;
        };
        let newer = known.is_newer(probe.sequence);
        if probe.sound_sequence != 0 {
            self.arrivals.announced(probe.sound_sequence);
        }
        let asks = newer && !probe.ended;
        self.take_word(&probe, now);
        if newer {
            self.inflow.datagram(data.len(), now);
            self.standing.entry(path).or_default().packet(probe.clock, now);
        }
        let answer = self.paths.probe_heard(path, &probe, now);
        if let Some(counts) = self.counts.get_mut(&path) {
            counts.first_heard.get_or_insert(now);
            counts.probes_received += 1;
        }
        if probe.ended {
            self.peer_has_ended(now);
        }
        // Whoever does not know yet that this end has ended is told at once.
        if answer || (asks && self.ending.is_some()) {
            self.send_probe(path, now);
        }
    }

    /// The other end says how our sound comes.
    fn take_word(&mut self, probe: &Probe, now: Instant) {
        if probe.sequence <= self.last_word || probe.standing_ms == NEVER {
            return;
        }
        self.last_word = probe.sequence;
        if self.paths.narrow_now(now) && self.paths.mirror().is_some() {
            // A path may have died: the copies are known not to fit, and will be gone in a moment.
            return;
        }
        let known = |value| (value != NEVER).then_some(value);
        let word = Word {
            standing_ms: probe.standing_ms,
            received_kbit_s: known(probe.received_kbit_s),
            lost_permille: self.paths.least_lost_permille(now),
        };
        let paths = u32::try_from(self.paths.valid(now).count()).unwrap_or(u32::MAX);
        let sending = Sending { mirroring: self.paths.mirror().is_some(), paths };
        let Some(step) = self.thrift.told(word, sending, now) else { return };
        if let Some(until) = step.single_until {
            self.paths.only_one_until(until, now);
        }
        if let Some(sound) = step.sound {
            self.push_event(Event::Rate {
                bits_per_second: sound.bits_per_second,
                packet_ms: sound.packet_ms,
            });
        }
    }

    /// SRTCP and the engine's own ICE checks: copies are dropped, since str0m has no replay check for SRTCP.
    fn take_control(&mut self, path: PathId, data: &[u8], now: Instant) {
        if self.seen_control.sight(data, path.0) == Sighting::New {
            self.seen_control.accept(data, path.0);
            self.engine.handle_packet(data, now);
            self.drain_engine(now);
        }
    }

    fn take_sound(&mut self, path: PathId, data: &[u8], now: Instant) {
        if let Some(counts) = self.counts.get_mut(&path) {
            counts.received += 1;
        }
        let short = short_sequence(data);
        match self.seen_sound.sight(data, path.0) {
            Sighting::Replay => self.arrivals.duplicates += 1,
            Sighting::CopyNewToPath => {
                self.arrivals.duplicates += 1;
                let sequence = self.arrivals.extend(short);
                self.credit(path, sequence, data, false, now);
            }
            Sighting::New => {
                self.engine.handle_packet(data, now);
                let authentic = self.drain_sound(short, now);
                let Some(sequence) = authentic else {
                    self.rejected += 1;
                    return;
                };
                self.seen_sound.accept(data, path.0);
                self.credit(path, sequence, data, true, now);
            }
        }
    }

    fn credit(&mut self, path: PathId, sequence: u64, data: &[u8], new: bool, now: Instant) {
        let rtp_time = rtp_time(data);
        self.inflow.datagram(data.len(), now);
        self.standing.entry(path).or_default().packet(rtp_time, now);
        let began = self.began;
        if let Some(counts) = self.counts.get_mut(&path) {
            counts.sound_credited(began, now);
            counts.first_heard.get_or_insert(now);
        }
        self.paths.sound_heard(path, sequence, rtp_time, new, now);
    }

    /// Hands one authentic packet of sound on.
    pub(super) fn deliver(&mut self, sequence: u64, rtp_time: u32, payload: Vec<u8>, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if self.arrivals.received() == 0 {
            self.push_event(Event::FirstMedia);
        }
        let gap = self.arrivals.arrived(sequence, now);
        self.history.arrived(gap, self.arrivals.lost(), now);
        self.push_event(Event::Opus { seq: sequence, rtp_time, payload, arrival: now });
    }
}
