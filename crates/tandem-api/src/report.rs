use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{CallSummary, CallWhy};

/// All that one side of a call measured, written beside its recording when the call ends.
///
/// The series have one value a step of `step_ms`, the first for the step that begins at `begin_unix_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallReport {
    pub call: CallSummary,
    pub begin_unix_ms: u64,
    pub step_ms: u64,
    /// Level of the sound sent, in dBFS, −100 for silence.
    pub sent_dbfs: Vec<f32>,
    /// Level of the sound heard, in dBFS, −100 for silence.
    pub heard_dbfs: Vec<f32>,
    pub paths: Vec<PathSeries>,
    /// Null where nothing was decoded here: a page does it itself.
    pub sound: Option<SoundReport>,
    /// Longest gap, and when it began.
    pub longest_gap_ms: f64,
    pub longest_gap_at_unix_ms: u64,
    /// Where the recording of what was heard lies, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Why it went the way it went. Reports of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<CallWhy>,
}

/// The sound packets of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PathSeries {
    /// Peer id of the relay, or `direct`.
    pub path: String,
    pub sent: Vec<u32>,
    pub received: Vec<u32>,
}

/// Where each moment of the sound that was played came from, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SoundReport {
    pub played_ms: u64,
    /// From the packet's own bits.
    pub decoded_ms: u64,
    /// From the low-bit-rate copy in the packet after it (LBRR).
    pub from_lbrr_ms: u64,
    /// From deep redundancy in a later packet (DRED).
    pub from_dred_ms: u64,
    /// Made up.
    pub concealed_ms: u64,
    /// Inserted or dropped to follow the network's delay.
    pub stretched_ms: u64,
    /// Delay that the jitter buffer added, at the end.
    pub buffer_ms: u64,
}
