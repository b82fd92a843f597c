//! Sound: Opus, the jitter buffer, WAV files, levels.
