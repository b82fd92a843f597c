//! Writing sound to a WAV file that is valid at any moment.

use std::fmt::Debug;
use std::io::{Seek, Write};

use hound::{SampleFormat, WavSpec, WavWriter};
use thiserror::Error;

use super::{Frame, SAMPLE_RATE};

/// The header is brought up to date each second: what a killed process loses is less than that.
const FLUSH_FRAMES: u32 = 50;
/// Recording ends after 10 hours (3.5 GB), before the header's 32-bit length runs over.
const FRAMES_MAX: u32 = 10 * 3_600 * 50;

/// The recording cannot go on.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The disk is full, or the file cannot be written for another reason.
    #[error("the recording cannot be written: {0}. Free some space, or record elsewhere")]
    Write(String),
    /// A WAV file cannot be longer.
    #[error("the recording is 10 hours long and ends here")]
    Full,
}

/// Something that takes 20 ms of sound at a time.
pub trait Sink: Send + Debug {
    /// Takes one frame.
    ///
    /// # Errors
    /// [`RecordError`] if it cannot; nothing more should be given then.
    fn write_frame(&mut self, frame: &Frame) -> Result<(), RecordError>;

    /// Completes what was written. Called once.
    ///
    /// # Errors
    /// [`RecordError`] if the last part cannot be written.
    fn finish(&mut self) -> Result<(), RecordError>;
}

/// Streams 48 kHz mono 16-bit WAV. Give it a buffered writer.
pub struct Recorder<W: Write + Seek> {
    writer: Option<WavWriter<W>>,
    frames: u32,
}

impl<W: Write + Seek> Debug for Recorder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("frames", &self.frames).finish_non_exhaustive()
    }
}

impl<W: Write + Seek> Recorder<W> {
    /// Writes the header of an empty recording.
    ///
    /// # Errors
    /// [`RecordError`] if it cannot be written.
    pub fn new(writer: W) -> Result<Self, RecordError> {
        let spec = WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let mut writer = WavWriter::new(writer, spec).map_err(failed)?;
        writer.flush().map_err(failed)?;
        Ok(Self { writer: Some(writer), frames: 0 })
    }
}

impl<W: Write + Seek + Send> Sink for Recorder<W> {
    fn write_frame(&mut self, frame: &Frame) -> Result<(), RecordError> {
        if self.frames >= FRAMES_MAX {
            self.finish()?;
            return Err(RecordError::Full);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut block = writer.get_i16_writer(frame.len() as u32);
        frame.iter().for_each(|sample| block.write_sample(*sample));
        block.flush().map_err(failed)?;
        self.frames += 1;
        if self.frames.is_multiple_of(FLUSH_FRAMES) {
            writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RecordError> {
        self.writer.take().map_or(Ok(()), |writer| writer.finalize().map_err(failed))
    }
}

fn failed(error: hound::Error) -> RecordError {
    RecordError::Write(match error {
        hound::Error::IoError(error) => error.to_string(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{self, Cursor, SeekFrom};
    use std::sync::{Arc, Mutex, MutexGuard};

    use super::*;

    /// A file that can be looked at while it is written, and fills up at `limit` bytes.
    #[derive(Clone)]
    struct Shared(Arc<Mutex<Cursor<Vec<u8>>>>, usize);

    impl Shared {
        fn file(&self) -> MutexGuard<'_, Cursor<Vec<u8>>> {
            self.0.lock().unwrap()
        }
    }

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut file = self.file();
            if file.get_ref().len() >= self.1 {
                return Err(io::Error::other("no space left"));
            }
            file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Shared {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file().seek(to)
        }
    }

    fn shared(limit: usize) -> Shared {
        Shared(Arc::default(), limit)
    }

    #[test]
    fn a_killed_recording_is_valid_to_the_last_second() {
        let file = shared(usize::MAX);
        let mut recorder = Recorder::new(file.clone()).unwrap();
        (0..120).for_each(|_| recorder.write_frame(&[7; 960]).unwrap());
        let as_killed = file.file().get_ref().clone();
        let reader = hound::WavReader::new(Cursor::new(as_killed)).unwrap();
        assert_eq!(reader.duration(), 100 * 960);
        recorder.finish().unwrap();
        recorder.finish().unwrap();
        let finished = file.file().get_ref().clone();
        assert_eq!(hound::WavReader::new(Cursor::new(finished)).unwrap().duration(), 120 * 960);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut recorder = Recorder::new(shared(10_000)).unwrap();
        let failed = (0..20).find_map(|_| recorder.write_frame(&[7; 960]).err());
        assert!(failed.is_some_and(|error| error.to_string().contains("no space left")));
    }
}
