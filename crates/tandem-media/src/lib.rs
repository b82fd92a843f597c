//! Sans-IO call media.
//!
//! [`audio`] is sound: Opus, the jitter buffer, WAV files, levels. [`session`] is the network side of one call: str0m,
//! TURN clients, the path set and its mirroring. [`page`] is a browser page of this machine that holds microphone and
//! speaker. The driver joins them and owns the sockets and the clock.

pub mod audio;
pub mod page;
pub mod session;
