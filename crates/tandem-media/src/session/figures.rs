//! The figures of a session, as people and the API see them.

use std::time::Instant;

use super::types::{CandidateOrigin, PathEnd, PathId, PathSeries, PathStats, RelayStats, SessionStats};
use super::{Session, as_ms};

impl Session {
    /// The counts so far.
    #[must_use]
    pub fn stats(&self, now: Instant) -> SessionStats {
        let ms = |at: Instant| as_ms(at.saturating_duration_since(self.began));
        let (gap, gap_at) = self.arrivals.longest_gap();
        SessionStats {
            packets_sent: self.sound_sent,
            packets_received: self.arrivals.received(),
            packets_lost: self.arrivals.lost(),
            tail_missing: self.arrivals.tail_missing(),
            duplicates: self.arrivals.duplicates,
            rejected: self.rejected,
            longest_gap_ms: gap.as_secs_f64() * 1000.0,
            longest_gap_at_ms: gap_at.map_or(0, ms),
            first_media_ms: self.arrivals.first_at.map(ms),
            connected_ms: self.connected_at.map(ms),
            mirroring: self.paths.mirror().is_some(),
            paths: self.counts.keys().filter_map(|id| self.path_stats(*id, now)).collect(),
            candidates: self.history.candidates(),
            relays: self.relay_stats(),
            switches: self.history.switches(),
            mapping_varies: self.direct.mapping_varies,
        }
    }

    /// Each path's packets over time, at most the last ten minutes.
    #[must_use]
    pub fn path_series(&self) -> Vec<PathSeries> {
        let series = self.counts.iter();
        series.filter_map(|(id, counts)| Some(counts.series(*id, self.paths.get(*id)?.route))).collect()
    }

    fn path_stats(&self, id: PathId, now: Instant) -> Option<PathStats> {
        let ms = |at: Instant| as_ms(at.saturating_duration_since(self.began));
        let (path, counts) = (self.paths.get(id)?, self.counts.get(&id)?);
        let ends = self.path_ends(id);
        Some(PathStats {
            id,
            route: path.route,
            state: path.state(now),
            sent: counts.sent,
            received: counts.received,
            credited: counts.credited,
            bytes_sent: counts.bytes_sent,
            bytes_received: counts.bytes_received,
            first_heard_ms: counts.first_heard.map(ms),
            last_heard_ms: path.last_heard.map(ms),
            last_sent_ms: counts.last_sent.map(ms),
            round_trip_ms: path.round_trip.map(|time| time.as_secs_f64() * 1000.0),
            local: ends.0,
            remote: ends.1,
            opened_ms: ms(path.opened_at),
            validated_ms: path.validated_at.map(ms),
            probes_sent: counts.probes_sent,
            probes_received: counts.probes_received,
            gave_up_at_ms: path.gave_up_at.map(ms),
            primary: self.paths.primary() == Some(id),
            mirroring: self.paths.mirror() == Some(id),
        })
    }

    /// The addresses that a path joins.
    fn path_ends(&self, id: PathId) -> (Option<PathEnd>, Option<PathEnd>) {
        if let Some((local, remote)) = self.paths.get(id).and_then(|path| path.ends) {
            return (Some(local), Some(remote));
        }
        let leg = self.legs.iter().find(|leg| leg.path == Some(id));
        let (local, remote) = leg.map_or((None, None), |leg| leg.relay.ends());
        let end = |addr| PathEnd { kind: CandidateOrigin::Relayed, addr };
        (local.map(end), remote.map(end))
    }

    fn relay_stats(&self) -> Vec<RelayStats> {
        let legs = self.legs.iter().map(|leg| leg.relay.stats());
        self.failed_relays.iter().cloned().chain(legs).collect()
    }
}
