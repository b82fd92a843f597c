//! One task a stream: frames out of a bounded queue, frames in as reports.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use prost::Message;
use tandem_proto::frame::{self, Decoder};
use tokio::sync::{mpsc, watch};
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
    /// The other end has not even shown for too long that it is there; `Closed` follows.
    Silent(K),
    /// The last report.
    Closed(K, String),
}

/// How a stream shows that it is alive: empty frames, when there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    None,
    Each(Duration),
}

impl Probe {
    /// Zero: none.
    pub(super) fn each(interval: Duration) -> Self {
        if interval.is_zero() { Self::None } else { Self::Each(interval) }
    }

    /// `None`: never.
    fn interval(self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Each(interval) => Some(interval),
        }
    }

    fn silence(self) -> Option<Duration> {
        self.interval().map(|interval| interval * PROBES_MISSED_MAX)
    }
}

/// After the writing end is done, the reading end gets this long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The writing end. When it is dropped, what was queued is written, and the stream closed.
#[derive(Debug)]
pub(super) struct StreamWriter<F> {
    queue: mpsc::Sender<F>,
    probe: watch::Sender<Probe>,
}

impl<F> StreamWriter<F> {
    /// `false`: the queue is full or the stream is gone.
    #[must_use]
    pub(super) fn send(&self, frame: F) -> bool {
        self.queue.try_send(frame).is_ok()
    }

    /// Counts from now on.
    pub(super) fn set_probe(&self, probe: Probe) {
        self.probe.send_replace(probe);
    }
}

/// Starts the task. `probe`: the interval of empty frames both ways.
pub(super) fn start<K, F>(
    key: K,
    stream: Stream,
    probe: Probe,
    reports: mpsc::Sender<StreamReport<K, F>>,
) -> StreamWriter<F>
where
    K: Copy + Send + 'static,
    F: Message + Default + PartialEq + 'static,
{
    let (queue, waiting) = mpsc::channel(QUEUE_FRAMES);
    let (set_probe, probe) = watch::channel(probe);
    tokio::spawn(async move {
        let (reader, writer) = stream.split();
        let reading = read_frames(key, reader, probe.clone(), &reports);
        tokio::pin!(reading);
        let reason = tokio::select! {
            reason = &mut reading => reason,
            // Nothing can be written any more, because we closed or the other end did. What the other end said last, a
            // hang-up perhaps, may still be on its way; and so may what we said.
            reason = write_frames(writer, waiting, probe) => {
                tokio::time::timeout(LAST_WORDS, &mut reading).await.unwrap_or(reason)
            }
        };
        // Nobody listens any more when the swarm has ended.
        drop(reports.send(StreamReport::Closed(key, reason)).await);
    });
    StreamWriter { queue, probe: set_probe }
}

async fn read_frames<K, F, R>(
    key: K,
    mut reader: R,
    mut probe: watch::Receiver<Probe>,
    reports: &mpsc::Sender<StreamReport<K, F>>,
) -> String
where
    K: Copy,
    F: Message + Default + PartialEq,
    R: futures::AsyncRead + Unpin,
{
    let mut frames = Decoder::<F>::new();
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let silence = probe.borrow_and_update().silence();
        let read = tokio::select! {
            read = reader.read(&mut bytes) => read,
            () = after(silence) => {
                // Nobody listens any more when the swarm has ended.
                drop(reports.send(StreamReport::Silent(key)).await);
                return format!("nothing was heard for {} s", silence.unwrap_or_default().as_secs());
            }
            // Another interval: it counts from now. A writing end that is gone changes nothing any more.
            Ok(()) = probe.changed() => continue,
        };
        match read {
            Err(error) => return error.to_string(),
            Ok(0) => return "the other end closed the stream".to_owned(),
            Ok(read) => {
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

/// `None`: never.
async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

const EMPTY_FRAME: [u8; 1] = [0];

async fn write_frames<F: Message, W>(
    mut writer: W,
    mut waiting: mpsc::Receiver<F>,
    mut probe: watch::Receiver<Probe>,
) -> String
where
    W: futures::AsyncWrite + Unpin,
{
    loop {
        let idle = probe.borrow_and_update().interval();
        let frame = tokio::select! {
            biased;
            frame = waiting.recv() => Some(frame),
            () = after(idle) => None,
            // At once, so that the other end hears something within its own new limit.
            Ok(()) = probe.changed() => None,
        };
        let bytes = match frame {
            None => EMPTY_FRAME.to_vec(),
            Some(Some(frame)) => match frame::encode(&frame) {
                Ok(bytes) => bytes,
                Err(error) => return error.to_string(),
            },
            Some(None) => {
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
