//! Loudness, for meters and pictures.

use std::collections::VecDeque;
use std::time::Duration;

use super::Frame;

/// What stands for silence, in dB relative to full scale. Nothing is reported quieter.
pub const FLOOR_DBFS: f32 = -96.0;

/// Root-mean-square level in dB relative to a full-scale square wave; [`FLOOR_DBFS`] for silence or no samples.
#[must_use]
pub fn rms_dbfs(samples: &[i16]) -> f32 {
    level_of(energy(samples), samples.len())
}

/// Levels over time: one value each 100 ms, the last hour kept.
#[derive(Debug, Clone, Default)]
pub struct LevelLog {
    levels: VecDeque<f32>,
    /// Values that were dropped from the front.
    forgotten: u64,
    energy: f64,
    samples: usize,
}

impl LevelLog {
    /// How much time one value covers.
    pub const STEP: Duration = Duration::from_millis(100);
    const STEP_SAMPLES: usize = 4_800;
    const LENGTH_MAX: usize = 36_000;

    /// Adds one frame.
    pub fn push(&mut self, frame: &Frame) {
        self.energy += energy(frame);
        self.samples += frame.len();
        if self.samples >= Self::STEP_SAMPLES {
            if self.levels.len() == Self::LENGTH_MAX {
                self.levels.pop_front();
                self.forgotten += 1;
            }
            self.levels.push_back(level_of(self.energy, self.samples));
            self.energy = 0.0;
            self.samples = 0;
        }
    }

    /// The values in dBFS, oldest first. The first one begins [`LevelLog::offset`] after the first frame.
    pub fn levels(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.levels.iter().copied()
    }

    /// The newest value, if 100 ms have passed.
    #[must_use]
    pub fn latest(&self) -> Option<f32> {
        self.levels.back().copied()
    }

    /// Time of the first value kept, from the first frame on; 0 in the first hour.
    #[must_use]
    pub fn offset(&self) -> Duration {
        Duration::from_millis(self.forgotten.saturating_mul(100))
    }
}

fn energy(samples: &[i16]) -> f64 {
    samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum()
}

fn level_of(energy: f64, samples: usize) -> f32 {
    if energy <= 0.0 || samples == 0 {
        return FLOOR_DBFS;
    }
    let mean = energy / samples as f64 / (32_768.0 * 32_768.0);
    ((10.0 * mean.log10()) as f32).max(FLOOR_DBFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SILENCE;

    #[test]
    fn full_scale_is_zero_and_silence_is_the_floor() {
        assert!(rms_dbfs(&[i16::MIN; 960]).abs() < 0.01);
        assert_eq!(rms_dbfs(&SILENCE), FLOOR_DBFS);
        assert_eq!(rms_dbfs(&[]), FLOOR_DBFS);
        assert!((rms_dbfs(&[16_384; 960]) + 6.02).abs() < 0.01);
    }

    #[test]
    fn one_value_each_five_frames_and_an_hour_at_most() {
        let mut log = LevelLog::default();
        for _ in 0..5 * 36_010 {
            log.push(&SILENCE);
        }
        assert_eq!(log.levels().len(), 36_000);
        assert_eq!(log.offset(), Duration::from_secs(1));
    }
}
