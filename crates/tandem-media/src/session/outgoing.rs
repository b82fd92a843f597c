//! What goes out: from the media engine or a probe, over the paths the policy chose.

use std::time::{Duration, Instant};

use tandem_proto::ids::ServiceKey;
use tandem_proto::wire;

use super::paths::Decision;
use super::probe::NEVER;
use super::rtc::{RtcOutput, is_dtls, is_sound};
use super::types::{Event, PathId, Redundancy, Route, Transmit};
use super::{Session, Way};

/// Packets of sound kept to be sent again, 640 ms of them.
const RECENT_MAX: usize = 32;

/// A packet of sound sent not long ago.
#[derive(Debug)]
pub(super) struct Recent {
    at: Instant,
    data: Vec<u8>,
    paths: Vec<PathId>,
}

impl Session {
    /// Carries out what the engine wants.
    pub(super) fn drain_engine(&mut self, now: Instant) {
        self.drain_engine_for(None, now);
    }

    /// The same after a packet of sound went in. Returns its whole sequence number if it was authentic and new.
    pub(super) fn drain_sound(&mut self, short: u16, now: Instant) -> Option<u64> {
        self.drain_engine_for(Some(short), now)
    }

    fn drain_engine_for(&mut self, short: Option<u16>, now: Instant) -> Option<u64> {
        let mut came = None;
        while let Some(output) = self.engine.poll(now) {
            match output {
                RtcOutput::Transmit(data) => self.transmit(data, now),
                RtcOutput::Connected => {
                    self.connected_at = Some(now);
                    self.paths.connected(now);
                    self.push_event(Event::Connected);
                }
                RtcOutput::Sound { sequence, rtp_time, payload } => {
                    #[expect(clippy::cast_possible_truncation, reason = "RTP carries the low 16 bits")]
                    if Some(sequence as u16) == short {
                        came = Some(sequence);
                    }
                    self.deliver(sequence, rtp_time, payload, now);
                }
                RtcOutput::Ended(reason) => self.close(&reason, now),
            }
        }
        came
    }

    fn transmit(&mut self, data: Vec<u8>, now: Instant) {
        if is_sound(&data) {
            self.transmit_sound(data, now);
        } else if is_dtls(&data) || data[0] < 2 {
            // Handshake flights and the engine's checks are rare and must get through.
            for path in self.paths.valid(now).collect::<Vec<_>>() {
                self.send_on(path, &data, now);
            }
        } else if let Some(path) = self.paths.route(now).first() {
            self.send_on(*path, &data, now);
        }
    }

    fn transmit_sound(&mut self, data: Vec<u8>, now: Instant) {
        let paths = self.paths.route(now);
        for path in &paths {
            self.send_sound_on(*path, &data, now);
        }
        if self.config.redundancy != Redundancy::Off {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(Recent { at: now, data, paths });
        }
    }

    fn send_sound_on(&mut self, path: PathId, data: &[u8], now: Instant) {
        if self.send_on(path, data, now)
            && let Some(counts) = self.counts.get_mut(&path)
        {
            counts.sound_sent(self.began, now);
        }
    }

    fn send_on(&mut self, path: PathId, data: &[u8], now: Instant) -> bool {
        let transmit = match self.ways.get(&path) {
            Some(Way::Relay(_)) => {
                let leg = self.legs.iter_mut().find(|leg| leg.path == Some(path));
                leg.and_then(|leg| leg.relay.send(data, now))
            }
            Some(Way::Direct { socket, remote }) => {
                Some(Transmit { socket: *socket, to: *remote, data: data.to_vec() })
            }
            None => None,
        };
        let sent = transmit.is_some();
        self.transmits.extend(transmit);
        if let Some(counts) = self.counts.get_mut(&path).filter(|_| sent) {
            counts.bytes_sent += data.len() as u64;
        }
        sent
    }

    /// Carries out what the policy decided.
    pub(super) fn drain_decisions(&mut self, now: Instant) {
        for decision in self.paths.decisions() {
            match decision {
                Decision::PrimaryChanged { from, to, why } => {
                    let route_of = |id| self.paths.get(id).map(|path| path.route);
                    if let Some(route) = route_of(to) {
                        let before = (from, from.and_then(route_of));
                        self.history.switched(before, (to, route), why, self.arrivals.lost(), now);
                        self.push_event(Event::PathChanged { from, to, route, why: why.to_owned() });
                    }
                }
                Decision::MirroringChanged { on, second, why } => {
                    self.push_event(Event::Mirroring { on, second, why: why.to_owned() });
                }
                Decision::Resend { back } => self.resend(back, now),
                Decision::ReportChanged => {
                    let report = self.report(now);
                    self.push_event(Event::PathReport(report));
                }
                Decision::AllSilent => self.push_event(Event::AllPathsSilent),
                Decision::GaveUp(id) => {
                    if let Some(Way::Direct { socket, remote }) = self.ways.get(&id).copied() {
                        self.direct.gave_up(socket, remote);
                    }
                }
                Decision::Recovered => self.push_event(Event::PathsRecovered),
            }
        }
    }

    /// Sends what may be lost again, on the paths of now that have not carried it.
    fn resend(&mut self, back: Duration, now: Instant) {
        let targets = self.paths.route(now);
        let mut recent = std::mem::take(&mut self.recent);
        for packet in recent.iter_mut().filter(|packet| now.saturating_duration_since(packet.at) <= back) {
            for path in &targets {
                if !packet.paths.contains(path) {
                    packet.paths.push(*path);
                    self.send_sound_on(*path, &packet.data, now);
                }
            }
        }
        self.recent = recent;
    }

    /// What this end hears, for signalling. One entry a relay, and one for all direct paths.
    fn report(&mut self, now: Instant) -> wire::PathReport {
        let sequence = self.next_report;
        self.next_report += 1;
        let mut paths: Vec<wire::PathState> = Vec::new();
        for id in self.ways.keys() {
            let Some(path) = self.paths.get(*id).filter(|path| !path.closed) else { continue };
            let relay = match path.route {
                Route::Direct => Vec::new(),
                Route::Relay { service: ServiceKey(key), .. } => key.to_vec(),
            };
            let (hears, lost) = (path.heard(now), u32::from(path.lost_permille(now)));
            match paths.iter_mut().find(|known| known.relay == relay) {
                Some(known) => known.hears |= hears,
                None => paths.push(wire::PathState { relay, hears, lost_permille: lost }),
            }
        }
        wire::PathReport { sequence, paths }
    }

    /// Sends the probes that are due.
    pub(super) fn send_probes(&mut self, now: Instant) {
        if self.engine.remote_password().is_some() {
            for path in self.paths.due_probes(now) {
                self.send_probe(path, now);
            }
        }
    }

    /// What stands in a queue on the best of the paths on which sound comes.
    fn standing_ms(&self, now: Instant) -> u16 {
        self.standing.values().filter_map(|path| path.standing_ms(now)).min().unwrap_or(NEVER)
    }

    pub(super) fn send_probe(&mut self, path: PathId, now: Instant) {
        let Some(password) = self.engine.remote_password().map(str::to_owned) else { return };
        let sequence = self.next_probe;
        // 2^32 probes would take a call of years.
        self.next_probe = self.next_probe.saturating_add(1);
        let Some(mut probe) = self.paths.compose_probe(path, sequence, now) else { return };
        #[expect(clippy::cast_possible_truncation, reason = "the wire has the low 32 bits")]
        let last = self.last_sequence as u32;
        probe.sound_sequence = last;
        probe.standing_ms = self.standing_ms(now);
        probe.received_kbit_s = self.inflow.kbit_s(now).unwrap_or(NEVER);
        probe.clock = self.clock(now);
        probe.ended = self.ending.is_some();
        let data = probe.encode(&password);
        let sent = self.send_on(path, &data, now);
        if let Some(counts) = self.counts.get_mut(&path).filter(|_| sent) {
            counts.probes_sent += 1;
        }
    }
}
