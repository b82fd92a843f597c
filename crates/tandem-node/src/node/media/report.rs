//! What a leg's media measured, when it has ended.

use std::time::Instant;

use tandem_api::{PathSeries, SoundReport};
use tandem_media::audio::endpoint::Endpoint;
use tandem_media::audio::level::LevelLog;
use tandem_media::session::{Route, Session, SessionStats};

/// Width of the steps of all series, in milliseconds.
pub(crate) const STEP_MS: u64 = 100;

/// All of it, aligned to the moment the endpoint was opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct MediaReport {
    pub(crate) stats: SessionStats,
    /// When the session was made.
    pub(crate) session_unix_ms: u64,
    /// When microphone and speaker were opened; 0 if never.
    pub(crate) begin_unix_ms: u64,
    pub(crate) sent_dbfs: Vec<f32>,
    pub(crate) heard_dbfs: Vec<f32>,
    pub(crate) paths: Vec<PathSeries>,
    /// `None` where nothing was decoded.
    pub(crate) sound: Option<SoundReport>,
}

impl MediaReport {
    pub(super) fn gather(
        session: &Session,
        now: Instant,
        endpoint: Option<&Endpoint>,
        session_ms: u64,
        begin_ms: u64,
    ) -> Self {
        let mut report = Self {
            stats: session.stats(now),
            session_unix_ms: session_ms,
            begin_unix_ms: begin_ms,
            paths: path_series(session, begin_ms.saturating_sub(session_ms)),
            ..Self::default()
        };
        if let Some(endpoint) = endpoint {
            report.sent_dbfs = levels(endpoint.sent_levels());
            report.heard_dbfs = levels(endpoint.received_levels());
            report.sound = endpoint.decodes().then(|| sound(endpoint));
        }
        report
    }
}

/// How a route is written in reports and events: the relay's peer id, or `direct`.
pub(crate) fn route_name(route: &Route) -> String {
    match route {
        Route::Direct => "direct".to_owned(),
        Route::Relay { service, .. } => service.to_string(),
    }
}

fn levels(log: Option<&LevelLog>) -> Vec<f32> {
    log.map(|log| log.levels().collect()).unwrap_or_default()
}

fn sound(endpoint: &Endpoint) -> SoundReport {
    let stats = endpoint.stats();
    SoundReport {
        played_ms: stats.played_ms,
        decoded_ms: stats.decoded_ms,
        from_lbrr_ms: stats.from_lbrr_ms,
        from_dred_ms: stats.from_dred_ms,
        concealed_ms: stats.concealed_ms,
        stretched_ms: stats.inserted_ms + stats.dropped_ms,
        buffer_ms: stats.delay_ms,
    }
}

/// The session's series in steps of 100 ms from `skip_ms` after its beginning, all of one length.
fn path_series(session: &Session, skip_ms: u64) -> Vec<PathSeries> {
    let raw = session.path_series();
    let end_ms = raw
        .iter()
        .map(|series| {
            series.start_ms
                + u64::from(series.bucket_ms) * series.sent.len().max(series.received.len()) as u64
        })
        .max()
        .unwrap_or(0);
    let steps = usize::try_from(end_ms.saturating_sub(skip_ms).div_ceil(STEP_MS)).unwrap_or(0);
    raw.iter()
        .map(|series| {
            let resample = |counts: &[u16]| {
                let mut out = vec![0u32; steps];
                for (bucket, count) in counts.iter().enumerate() {
                    let at_ms = series.start_ms + u64::from(series.bucket_ms) * bucket as u64;
                    let step = at_ms.checked_sub(skip_ms).and_then(|ms| usize::try_from(ms / STEP_MS).ok());
                    if let Some(slot) = step.and_then(|step| out.get_mut(step)) {
                        *slot += u32::from(*count);
                    }
                }
                out
            };
            PathSeries {
                path: route_name(&series.route),
                sent: resample(&series.sent),
                received: resample(&series.received),
            }
        })
        .collect()
}
