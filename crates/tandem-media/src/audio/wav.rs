//! Sound from WAV files, turned into 48 kHz mono frames as it is played.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use hound::{SampleFormat, WavReader};
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};
use thiserror::Error;

use super::{FRAME_SAMPLES, Frame, SAMPLE_RATE, SILENCE};

/// Longest file accepted.
pub const DURATION_MAX: Duration = Duration::from_secs(3_600);
/// Sample rates accepted, in Hz.
pub const RATES: std::ops::RangeInclusive<u32> = 8_000..=96_000;
/// Samples read from the file at a time.
const CHUNK: usize = 1_024;
/// A data length from here on was never filled in by the program that wrote the file into a pipe.
const LENGTH_UNKNOWN: u64 = 0x7FFF_0000;

/// Why a file cannot be played. Each says what is wrong with the file; the caller adds which file.
#[derive(Debug, Error)]
pub enum WavError {
    /// Something else than a WAV file.
    #[error("it is not a WAV file. Convert it first, for example with `ffmpeg -i FILE out.wav`")]
    NotWav,
    /// No sound in it.
    #[error("it is empty: it holds no sound")]
    Empty,
    /// It ends early, or contradicts itself.
    #[error("it is damaged: {0}. Copy or export it again")]
    Damaged(String),
    /// A WAV file of a kind that is not played.
    #[error(
        "{0} is not supported. Mono or stereo, 8 to 96 kHz, 8, 16, 24 or 32 bits are; \
         convert it with `ffmpeg -i FILE -ar 48000 -ac 1 out.wav`"
    )]
    Unsupported(String),
    /// Over an hour.
    #[error("it lasts {} minutes; at most 60 are played. Cut it first", .0 / 60)]
    TooLong(u64),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// The frame holds sound.
    Playing,
    /// There is no more sound: the frame is silence, as all later ones are.
    Ended,
}

/// Something that gives 20 ms of sound at a time, for as long as it is asked.
pub trait Source: Send + Debug {
    /// Fills `frame`. After an error, and after the end, every frame is silence.
    ///
    /// # Errors
    /// [`WavError`] once, if the sound stops because it cannot be read.
    fn next_frame(&mut self, frame: &mut Frame) -> Result<SourceState, WavError>;
}

/// Silence for ever.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl Source for Silence {
    fn next_frame(&mut self, frame: &mut Frame) -> Result<SourceState, WavError> {
        *frame = SILENCE;
        Ok(SourceState::Ended)
    }
}

/// How a file is played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WavOptions {
    /// Begin again at the end, without a gap.
    pub repeat: bool,
    /// Silence before it starts (rounded down to 20 ms); not repeated.
    pub lead: Duration,
}

/// Plays a WAV file. Holds about 50 ms of it in memory.
#[derive(Debug)]
pub struct WavSource<R: Read + Seek> {
    file: WavFile<R>,
    converter: Option<Converter>,
    ready: VecDeque<i16>,
    lead_frames: u64,
    repeat: bool,
    /// Samples at 48 kHz still to be given, unless it repeats.
    left: u64,
    failed: bool,
}

impl<R: Read + Seek + Send + Debug> WavSource<R> {
    /// Opens a file and checks it.
    ///
    /// # Errors
    /// [`WavError`] if it is not a WAV file that can be played to the end.
    pub fn open(reader: R, options: WavOptions) -> Result<Self, WavError> {
        let file = WavFile::open(reader)?;
        let converter = Converter::new(file.rate)?;
        let left = file.frames * u64::from(SAMPLE_RATE) / u64::from(file.rate);
        if left == 0 {
            return Err(WavError::Empty);
        }
        Ok(Self {
            file,
            converter,
            ready: VecDeque::new(),
            lead_frames: (options.lead.as_millis() / 20) as u64,
            repeat: options.repeat,
            left,
            failed: false,
        })
    }

    /// How long the file lasts, without the lead.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_micros(self.file.frames * 1_000_000 / u64::from(self.file.rate))
    }

    /// Reads and converts until a frame is ready.
    fn fill(&mut self) -> Result<(), WavError> {
        while self.ready.len() < FRAME_SAMPLES {
            let wanted = self.converter.as_ref().map_or(CHUNK, Converter::wanted);
            let mono = self.gather(wanted)?;
            match &mut self.converter {
                Some(converter) => converter.convert(&mono, &mut self.ready)?,
                None => self.ready.extend(mono.iter().map(|sample| to_i16(*sample))),
            }
        }
        Ok(())
    }

    /// Exactly `wanted` samples: from the file, from its beginning again, or silence after its end.
    fn gather(&mut self, wanted: usize) -> Result<Vec<f32>, WavError> {
        let mut mono = Vec::with_capacity(wanted);
        self.file.read_mono(wanted, &mut mono)?;
        while self.repeat && mono.len() < wanted {
            self.file.rewind()?;
            self.file.read_mono(wanted - mono.len(), &mut mono)?;
        }
        mono.resize(wanted, 0.0);
        Ok(mono)
    }
}

impl<R: Read + Seek + Send + Debug> Source for WavSource<R> {
    fn next_frame(&mut self, frame: &mut Frame) -> Result<SourceState, WavError> {
        *frame = SILENCE;
        if self.lead_frames > 0 {
            self.lead_frames -= 1;
            return Ok(SourceState::Playing);
        }
        if self.failed || (self.left == 0 && !self.repeat) {
            return Ok(SourceState::Ended);
        }
        self.fill().inspect_err(|_| self.failed = true)?;
        let given = if self.repeat { FRAME_SAMPLES as u64 } else { self.left.min(FRAME_SAMPLES as u64) };
        for (place, sample) in frame.iter_mut().zip(self.ready.drain(..given as usize)) {
            *place = sample;
        }
        self.left = self.left.saturating_sub(given);
        Ok(SourceState::Playing)
    }
}

/// An opened file, checked, read as mono.
#[derive(Debug)]
struct WavFile<R: Read + Seek> {
    /// `None` only while it is being opened again, or after that failed.
    reader: Option<Wav<R>>,
    rate: u32,
    channels: u16,
    /// Sample values from −1 to 1 are the integer ones divided by this; 0 for files that hold floats.
    scale: f32,
    frames: u64,
    read: u64,
}

/// hound's reader, which has no `Debug` of its own.
struct Wav<R>(WavReader<R>);

impl<R> Debug for Wav<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WavReader")
    }
}

impl<R: Read + Seek> WavFile<R> {
    fn open(mut reader: R) -> Result<Self, WavError> {
        let bytes = reader.seek(SeekFrom::End(0))?;
        if bytes == 0 {
            return Err(WavError::Empty);
        }
        let start = data_start(&mut reader)?;
        reader.rewind()?;
        let wav = WavReader::new(reader).map_err(explain)?;
        let spec = wav.spec();
        if !(1..=2).contains(&spec.channels) {
            return Err(WavError::Unsupported(format!("sound of {} channels", spec.channels)));
        }
        if !RATES.contains(&spec.sample_rate) {
            return Err(WavError::Unsupported(format!("a sample rate of {} Hz", spec.sample_rate)));
        }
        let scale = match (spec.sample_format, spec.bits_per_sample) {
            (SampleFormat::Float, 32) => 0.0,
            (SampleFormat::Int, bits @ (8 | 16 | 24 | 32)) => (1u64 << (bits - 1)) as f32,
            (_, bits) => return Err(WavError::Unsupported(format!("sound of {bits} bits"))),
        };
        let frame_bytes = u64::from(spec.channels) * u64::from(spec.bits_per_sample / 8);
        let frames = checked_frames(u64::from(wav.duration()), frame_bytes, bytes.saturating_sub(start))?;
        let seconds = frames / u64::from(spec.sample_rate);
        if frames > DURATION_MAX.as_secs() * u64::from(spec.sample_rate) {
            return Err(WavError::TooLong(seconds));
        }
        let (rate, channels) = (spec.sample_rate, spec.channels);
        Ok(Self { reader: Some(Wav(wav)), rate, channels, scale, frames, read: 0 })
    }

    /// Appends at most `wanted` samples, fewer only at the end of the file.
    fn read_mono(&mut self, wanted: usize, mono: &mut Vec<f32>) -> Result<(), WavError> {
        let left = usize::try_from(self.frames - self.read).unwrap_or(usize::MAX);
        let count = wanted.min(left);
        let (channels, scale) = (usize::from(self.channels), self.scale);
        let gone = || WavError::Damaged("it could not be opened again".into());
        let reader = &mut self.reader.as_mut().ok_or_else(gone)?.0;
        for _ in 0..count {
            let mut sum = 0.0;
            for _ in 0..channels {
                sum += next_sample(reader, scale)?;
            }
            mono.push(sum / channels as f32);
        }
        self.read += count as u64;
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), WavError> {
        let gone = || WavError::Damaged("it could not be opened again".into());
        let mut inner = self.reader.take().ok_or_else(gone)?.0.into_inner();
        inner.rewind()?;
        self.reader = Some(Wav(WavReader::new(inner).map_err(explain)?));
        self.read = 0;
        Ok(())
    }
}

/// Where the sound begins in the file, in bytes.
fn data_start<R: Read + Seek>(reader: &mut R) -> Result<u64, WavError> {
    reader.rewind()?;
    WavReader::new(&mut *reader).map_err(explain)?;
    Ok(reader.stream_position()?)
}

/// Compares the length in the header (`frames`) with what is there.
fn checked_frames(frames: u64, frame_bytes: u64, bytes: u64) -> Result<u64, WavError> {
    let there = bytes / frame_bytes.max(1);
    let frames = match frames * frame_bytes {
        LENGTH_UNKNOWN.. => there,
        claimed if claimed > bytes => {
            return Err(WavError::Damaged(format!(
                "{} of its {claimed} bytes of sound are missing",
                claimed - bytes
            )));
        }
        _ => frames,
    };
    if frames == 0 { Err(WavError::Empty) } else { Ok(frames) }
}

/// One value between −1 and 1.
fn next_sample<R: Read>(reader: &mut WavReader<R>, scale: f32) -> Result<f32, WavError> {
    let ended = || WavError::Damaged("it ends before its sound does".into());
    if scale == 0.0 {
        let value = reader.samples::<f32>().next().ok_or_else(ended)?.map_err(explain)?;
        return Ok(if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 });
    }
    let value = reader.samples::<i32>().next().ok_or_else(ended)?.map_err(explain)?;
    Ok(value as f32 / scale)
}

fn explain(error: hound::Error) -> WavError {
    match error {
        hound::Error::FormatError("no RIFF tag found" | "no WAVE tag found") => WavError::NotWav,
        hound::Error::FormatError(what) => WavError::Damaged(what.into()),
        hound::Error::Unsupported => WavError::Unsupported("its way of coding sound".into()),
        hound::Error::IoError(error)
            if matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) =>
        {
            WavError::Damaged("it ends early".into())
        }
        hound::Error::IoError(error) => WavError::Read(error),
        other => WavError::Damaged(other.to_string()),
    }
}

/// Changes the sample rate to 48 kHz, without delay.
#[derive(Debug)]
struct Converter {
    fft: Fft<f32>,
    output: Vec<f32>,
    /// Samples of the filter's own delay still to be left out.
    skip: usize,
}

impl Converter {
    /// `None` if nothing is to be changed.
    fn new(rate: u32) -> Result<Option<Self>, WavError> {
        if rate == SAMPLE_RATE {
            return Ok(None);
        }
        let fft = Fft::new(rate as usize, SAMPLE_RATE as usize, CHUNK, 1, FixedSync::Both)
            .map_err(|error| WavError::Unsupported(format!("a sample rate of {rate} Hz ({error})")))?;
        let (output, skip) = (vec![0.0; fft.output_frames_max()], fft.output_delay());
        Ok(Some(Self { fft, output, skip }))
    }

    fn wanted(&self) -> usize {
        self.fft.input_frames_next()
    }

    fn convert(&mut self, mono: &[f32], ready: &mut VecDeque<i16>) -> Result<(), WavError> {
        let odd =
            |error: &dyn std::fmt::Display| WavError::Damaged(format!("it cannot be resampled ({error})"));
        let room = self.output.len();
        let input = InterleavedSlice::new(mono, 1, mono.len()).map_err(|e| odd(&e))?;
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, room).map_err(|e| odd(&e))?;
        let (_, made) = self.fft.process_into_buffer(&input, &mut output, None).map_err(|e| odd(&e))?;
        let skipped = self.skip.min(made);
        self.skip -= skipped;
        ready.extend(self.output[skipped..made].iter().map(|sample| to_i16(*sample)));
        Ok(())
    }
}

fn to_i16(sample: f32) -> i16 {
    (sample * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use hound::{WavSpec, WavWriter};

    use super::*;
    use crate::audio::level::rms_dbfs;

    fn spec(rate: u32, channels: u16, bits: u16) -> WavSpec {
        let sample_format = if bits == 0 { SampleFormat::Float } else { SampleFormat::Int };
        WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: if bits == 0 { 32 } else { bits },
            sample_format,
        }
    }

    /// A second of a 400 Hz tone at half of full scale; `bits` 0 stands for float.
    fn tone(rate: u32, channels: u16, bits: u16) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec(rate, channels, bits)).unwrap();
        for i in 0..rate {
            let value = (i as f32 * 400.0 / rate as f32 * std::f32::consts::TAU).sin() * 0.5;
            for _ in 0..channels {
                match bits {
                    0 => writer.write_sample(value).unwrap(),
                    bits => writer.write_sample((value * ((1u64 << (bits - 1)) - 1) as f32) as i32).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
        file.into_inner()
    }

    fn open(file: Vec<u8>) -> Result<WavSource<Cursor<Vec<u8>>>, WavError> {
        WavSource::open(Cursor::new(file), WavOptions::default())
    }

    fn play(mut source: impl Source) -> Vec<i16> {
        let mut all = Vec::new();
        let mut frame = SILENCE;
        while source.next_frame(&mut frame).unwrap() == SourceState::Playing {
            all.extend_from_slice(&frame);
        }
        all
    }

    #[test]
    fn every_kind_becomes_the_same_tone() {
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 44_101] {
            for (channels, bits) in [(1, 16), (2, 8), (1, 24), (2, 32), (1, 0)] {
                let played = play(open(tone(rate, channels, bits)).unwrap());
                assert_eq!(played.len(), 48_000, "{rate} {channels} {bits}");
                let level = rms_dbfs(&played[4_800..43_200]);
                assert!((level + 9.03).abs() < 0.2, "{rate} {channels} {bits}: {level} dBFS");
                let expected = |i: usize| (i as f32 / 120.0 * std::f32::consts::TAU).sin() * 16_384.0;
                let worst =
                    (4_800..43_200).map(|i| (f32::from(played[i]) - expected(i)).abs()).fold(0.0, f32::max);
                // The resampler may be off by half a sample of the file (the tone rises by at most 858 a sample), and
                // 8 bits by a step of 256.
                let aligned = 858.0 * 0.5 * 48_000.0 / rate as f32 + 400.0;
                assert!(worst < aligned, "{rate} {channels} {bits}: {worst} (not aligned?)");
            }
        }
    }

    #[test]
    fn wrong_files_are_named() {
        assert!(matches!(open(Vec::new()), Err(WavError::Empty)));
        assert!(matches!(open(b"OggS, say, and a little more of it".to_vec()), Err(WavError::NotWav)));
        assert!(matches!(open(tone(16_000, 1, 16)[..44].to_vec()), Err(WavError::Damaged(_))));
        assert!(matches!(open(tone(16_000, 1, 16)[..20_000].to_vec()), Err(WavError::Damaged(_))));
        assert!(matches!(open(tone(16_000, 1, 16)[..30].to_vec()), Err(WavError::Damaged(_))));
        assert!(matches!(open(tone(4_000, 1, 16)), Err(WavError::Unsupported(_))));
        assert!(matches!(open(tone(192_000, 1, 16)), Err(WavError::Unsupported(_))));
        assert!(matches!(open(tone(8_000, 3, 16)), Err(WavError::Unsupported(_))));
        let mut silent = Cursor::new(Vec::new());
        WavWriter::new(&mut silent, spec(8_000, 1, 16)).unwrap().finalize().unwrap();
        assert!(matches!(open(silent.into_inner()), Err(WavError::Empty)));
        let mut zero_rate = tone(16_000, 1, 16);
        zero_rate[24..28].fill(0);
        assert!(open(zero_rate).is_err());
    }

    #[test]
    fn an_hour_is_the_most() {
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec(8_000, 1, 8)).unwrap();
        (0..=8_000 * 3_600).for_each(|_| writer.write_sample(0i8).unwrap());
        writer.finalize().unwrap();
        assert!(matches!(open(file.into_inner()), Err(WavError::TooLong(3_600))));
    }

    #[test]
    fn a_length_that_was_never_filled_in_is_found() {
        let mut file = tone(16_000, 1, 16);
        file[40..44].copy_from_slice(&0x7FFF_F000u32.to_le_bytes());
        assert_eq!(open(file).unwrap().duration(), Duration::from_secs(1));
    }

    #[test]
    fn a_repeated_tone_has_no_seam_and_a_lead_comes_first() {
        for rate in [16_000, 44_100, 48_000] {
            let options = WavOptions { repeat: true, lead: Duration::from_millis(100) };
            let mut source = WavSource::open(Cursor::new(tone(rate, 1, 16)), options).unwrap();
            let mut all = Vec::new();
            let mut frame = SILENCE;
            for _ in 0..200 {
                assert_eq!(source.next_frame(&mut frame).unwrap(), SourceState::Playing);
                all.extend_from_slice(&frame);
            }
            assert!(all[..4_800].iter().all(|sample| *sample == 0));
            let steepest = all[9_600..].windows(2).map(|w| (i32::from(w[0]) - i32::from(w[1])).abs()).max();
            assert!(steepest < Some(950), "{rate}: {steepest:?}");
        }
    }
}
