//! Is what was heard what was said? Recordings are compared with what was played by their loudness over time, which
//! survives the codec, resampling and a jitter buffer that stretches.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// One value of loudness for so long.
const FRAME_MS: u32 = 20;
const FLOOR_DB: f64 = -60.0;
/// The other side may have begun so much earlier or later.
const LAG_FRAMES: usize = 150;
/// Less is too little to say anything.
const FRAMES_LEAST: usize = 60;

/// How alike two sounds are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeness {
    /// Correlation of the loudness over time at the best lag, from −1 to 1. The same words give 0.9 and more, other
    /// words less than 0.6.
    pub correlation: f64,
    /// Mean loudness of what was heard, less that of what was played then, in dB.
    pub level_db: f64,
    /// Length of what was heard, in seconds.
    pub seconds: f64,
}

/// Compares a recording with what the other side played.
///
/// # Errors
/// When a file cannot be read, or the recording is silent or too short.
pub fn compare(played: &Path, heard: &Path) -> Result<Likeness> {
    let (played, heard) = (loudness(played)?, loudness(heard)?);
    let begin = heard.iter().position(|db| *db > FLOOR_DB).context("the recording is silent")?;
    let heard = &heard[begin..];
    ensure!(
        heard.len() >= FRAMES_LEAST,
        "the recording is shorter than {} ms",
        FRAMES_LEAST as u32 * FRAME_MS
    );
    let mut best: Option<(f64, usize)> = None;
    // Speech has pauses at its begin, and the first packets may be lost: either may be ahead.
    let padded: Vec<f64> = std::iter::repeat_n(FLOOR_DB, LAG_FRAMES).chain(played.iter().copied()).collect();
    for lag in 0..LAG_FRAMES * 2 {
        let Some(part) = padded.get(lag..lag + heard.len()) else { break };
        let Some(value) = correlation(part, heard) else { continue };
        if best.is_none_or(|(known, _)| value > known) {
            best = Some((value, lag));
        }
    }
    let Some((correlation, lag)) = best else {
        bail!("the recording has no ups and downs, or is longer than what was played")
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let level_db = mean(heard) - mean(&padded[lag..lag + heard.len()]);
    Ok(Likeness { correlation, level_db, seconds: heard.len() as f64 * f64::from(FRAME_MS) / 1000.0 })
}

/// Loudness of each frame, in dB below full scale, not below the floor.
fn loudness(path: &Path) -> Result<Vec<f64>> {
    let mut reader =
        hound::WavReader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec = reader.spec();
    let samples: Vec<f64> = match spec.sample_format {
        hound::SampleFormat::Int => {
            let full = f64::from(1u32 << (spec.bits_per_sample - 1));
            reader.samples::<i32>().map_while(Result::ok).map(|sample| f64::from(sample) / full).collect()
        }
        hound::SampleFormat::Float => reader.samples::<f32>().map_while(Result::ok).map(f64::from).collect(),
    };
    let frame = (spec.sample_rate * u32::from(spec.channels) * FRAME_MS / 1000) as usize;
    let db = |frame: &[f64]| {
        let power = frame.iter().map(|sample| sample * sample).sum::<f64>() / frame.len() as f64;
        (10.0 * power.max(1e-12).log10()).max(FLOOR_DB)
    };
    Ok(samples.chunks_exact(frame.max(1)).map(db).collect())
}

/// Pearson's; `None` when one of them does not vary.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let count = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let (mut both, mut alone_a, mut alone_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        both += a * b;
        alone_a += a * a;
        alone_b += b * b;
    }
    let scale = (alone_a * alone_b).sqrt();
    (scale > f64::EPSILON).then(|| both / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/speech").join(name)
    }

    /// Part of a passage, made louder or softer, with holes.
    fn part(of: &str, to: &Path, from_s: f64, seconds: f64, gain: f64, holes: bool) {
        let mut reader = hound::WavReader::open(speech(of)).expect("speech");
        let rate = f64::from(reader.spec().sample_rate);
        let mut writer = hound::WavWriter::create(to, reader.spec()).expect("a file");
        let samples: Vec<i16> = reader.samples().collect::<Result<_, _>>().expect("samples");
        let (begin, end) = ((from_s * rate) as usize, ((from_s + seconds) * rate) as usize);
        for (at, sample) in samples[begin..end].iter().enumerate() {
            let lost = holes && at / 320 % 20 == 7;
            let sample = if lost { 0.0 } else { f64::from(*sample) * gain };
            writer.write_sample(sample as i16).expect("write");
        }
        writer.finalize().expect("finish");
    }

    #[test]
    fn the_same_words_are_alike_and_other_words_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = folder.path().join("heard.wav");
        part("alice.wav", &heard, 0.4, 4.0, 0.5, true);
        let same = compare(&speech("alice.wav"), &heard).expect("alike");
        assert!(same.correlation > 0.85, "{same:?}");
        assert!((-8.0..-4.0).contains(&same.level_db), "{same:?}");
        let other = compare(&speech("bob.wav"), &heard).expect("compared");
        assert!(other.correlation < 0.7, "{other:?}");
    }

    #[test]
    fn silence_is_no_sound() {
        let folder = tempfile::tempdir().expect("a folder");
        let heard = folder.path().join("heard.wav");
        part("alice.wav", &heard, 0.4, 4.0, 0.0, false);
        assert!(compare(&speech("alice.wav"), &heard).is_err());
    }
}
