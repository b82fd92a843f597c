//! What a call is attached to on this machine: files, the echo or a page.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tandem_api::CallEndpoint;
use tandem_media::audio::endpoint::Endpoint;
use tandem_media::audio::opus::EncoderConfig;
use tandem_media::audio::recorder::{Recorder, Sink};
use tandem_media::audio::wav::{Silence, Source, WavOptions, WavSource};

use super::page::PageSound;

/// What to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndpointPlan {
    /// Play a file (silence without one), record to a file (nothing without one).
    Files {
        play: Option<PathBuf>,
        record: Option<PathBuf>,
    },
    Echo,
    /// Whatever page of a browser attaches there.
    Page(PageSound),
}

impl EndpointPlan {
    /// As the API names it.
    pub(crate) fn kind(&self) -> CallEndpoint {
        match self {
            Self::Files { .. } => CallEndpoint::File,
            Self::Echo => CallEndpoint::Echo,
            Self::Page(_) => CallEndpoint::Page,
        }
    }

    pub(crate) fn page(&self) -> Option<&PageSound> {
        match self {
            Self::Page(page) => Some(page),
            Self::Files { .. } | Self::Echo => None,
        }
    }

    /// Opens the files and makes the endpoint. The error is a sentence for a person.
    pub(super) fn open(&self, rtp_start: u32, now: Instant) -> Result<Endpoint, String> {
        match self {
            Self::Echo => Ok(Endpoint::echo(rtp_start)),
            Self::Page(_) => Ok(Endpoint::page(rtp_start, now)),
            Self::Files { play, record } => {
                let source = match play {
                    Some(path) => open_source(path)?,
                    None => Box::new(Silence),
                };
                let recorder = record.as_deref().map(open_recorder).transpose()?;
                Endpoint::voice(source, recorder, EncoderConfig::default(), rtp_start, now)
                    .map_err(|error| format!("the sound codec did not start: {error}"))
            }
        }
    }
}

/// Checks that a file can be played, before anybody is called.
pub(crate) fn check_playable(path: &Path) -> Result<(), String> {
    open_source(path).map(drop)
}

fn open_source(path: &Path) -> Result<Box<dyn Source>, String> {
    let file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let source = WavSource::open(BufReader::new(file), WavOptions::default())
        .map_err(|error| format!("{} cannot be played: {error}", path.display()))?;
    Ok(Box::new(source))
}

fn open_recorder(path: &Path) -> Result<Box<dyn Sink>, String> {
    let file =
        File::create(path).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    let recorder = Recorder::new(BufWriter::new(file))
        .map_err(|error| format!("{} cannot be recorded to: {error}", path.display()))?;
    Ok(Box::new(recorder))
}
