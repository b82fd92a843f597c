//! One task a stream: frames out of a bounded queue, frames in as reports.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use prost::Message;
use tandem_proto::frame::{self, Decoder};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Frames waiting to be written. One more, and the stream is given up: the other end takes nothing in.
const QUEUE_FRAMES: usize = 64;
/// A write that stands still for this long ends the stream.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4096;
/// Silence of this many probe intervals ends a probed stream.
const PROBES_MISSED_MAX: u32 = 3;

/// What a stream's task tells its swarm.
#[derive(Debug)]
pub(super) enum StreamReport<K, F> {
    Frame(K, F),
    /// The last report.
    Closed(K, String),
}

/// The writing end. When it is dropped, what was queued is written, and the stream closed.
#[derive(Debug)]
pub(super) struct StreamWriter<F>(mpsc::Sender<F>);

impl<F> StreamWriter<F> {
    /// `false`: the queue is full or the stream is gone.
    #[must_use]
    pub(super) fn send(&self, frame: F) -> bool {
        self.0.try_send(frame).is_ok()
    }
}

/// Starts the task. `probe`: zero for none, else the interval of empty frames both ways.
pub(super) fn start<K, F>(
    key: K,
    stream: Stream,
    probe: Duration,
    reports: mpsc::Sender<StreamReport<K, F>>,
) -> StreamWriter<F>
where
    K: Copy + Send + 'static,
    F: Message + Default + PartialEq + 'static,
{
    let (queue, waiting) = mpsc::channel(QUEUE_FRAMES);
    tokio::spawn(async move {
        let (reader, writer) = stream.split();
        let reason = tokio::select! {
            reason = read_frames(key, reader, probe, &reports) => reason,
            reason = write_frames(writer, waiting, probe) => reason,
        };
        // Nobody listens any more when the swarm has ended.
        drop(reports.send(StreamReport::Closed(key, reason)).await);
    });
    StreamWriter(queue)
}

async fn read_frames<K, F, R>(
    key: K,
    mut reader: R,
    probe: Duration,
    reports: &mpsc::Sender<StreamReport<K, F>>,
) -> String
where
    K: Copy,
    F: Message + Default + PartialEq,
    R: futures::AsyncRead + Unpin,
{
    let mut frames = Decoder::<F>::new();
    let mut bytes = vec![0; READ_BYTES];
    let silence = if probe.is_zero() { Duration::MAX } else { probe * PROBES_MISSED_MAX };
    loop {
        match timeout(silence, reader.read(&mut bytes)).await {
            Err(_) => return format!("nothing was heard for {} s", silence.as_secs()),
            Ok(Err(error)) => return error.to_string(),
            Ok(Ok(0)) => return "the other end closed the stream".to_owned(),
            Ok(Ok(read)) => {
                if let Err(error) = frames.push(&bytes[..read]) {
                    return error.to_string();
                }
            }
        }
        loop {
            match frames.next_message() {
                Ok(None) => break,
                Ok(Some(frame)) if frame == F::default() => {} // still there
                Ok(Some(frame)) => {
                    if reports.send(StreamReport::Frame(key, frame)).await.is_err() {
                        return "the swarm ended".to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }
}

async fn write_frames<F: Message, W>(mut writer: W, mut waiting: mpsc::Receiver<F>, probe: Duration) -> String
where
    W: futures::AsyncWrite + Unpin,
{
    let idle = if probe.is_zero() { Duration::MAX } else { probe };
    loop {
        let bytes = match timeout(idle, waiting.recv()).await {
            Err(_) => vec![0], // an empty frame: still here
            Ok(Some(frame)) => match frame::encode(&frame) {
                Ok(bytes) => bytes,
                Err(error) => return error.to_string(),
            },
            Ok(None) => {
                return match timeout(WRITE_TIMEOUT, writer.close()).await {
                    Ok(Ok(())) => "closed here".to_owned(),
                    Ok(Err(error)) => format!("closed here, with an error: {error}"),
                    Err(_) => "closed here, unheard".to_owned(),
                };
            }
        };
        let write = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "the other end takes nothing in".to_owned(),
        }
    }
}
