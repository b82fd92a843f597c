//! Calls over bad lines under forced time: two real sessions, real relay servers, real sound. Writes what was played
//! and what was heard, and a list of both, for `./x bench loss` to score.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should fail where it stands")]
#![expect(clippy::print_stdout, reason = "the list is its output")]

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tandem_media::audio::endpoint::Endpoint;
use tandem_media::audio::opus::EncoderConfig;
use tandem_media::audio::recorder::{Recorder, Sink};
use tandem_media::audio::wav::{Source, SourceState, WavError, WavOptions, WavSource};
use tandem_media::audio::{Frame, SILENCE};
use tandem_media::session::Redundancy;

#[path = "../tests/it/session_line.rs"]
mod session_line;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/session_nat.rs"]
mod session_nat;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/session_world.rs"]
mod session_world;

use session_line::{Line, LineKind, Loss, Trace};
use session_world::{A, B, World, ms};

/// The call goes on for so long before what is scored: the first seconds are mirrored, queues and rates find themselves.
const SETTLING: Duration = Duration::from_secs(20);
/// Longest piece that is scored.
const PIECE_FRAMES: usize = 12 * 50;
/// A shorter one would say too little.
const PIECE_FRAMES_MIN: usize = 6 * 50;
const THREADS: usize = 2;

#[derive(Debug, Clone, Copy)]
struct Cell {
    name: &'static str,
    /// On each path, both ways, each with its own trace.
    paths: Loss,
    /// On the line of the one who listens, both ways.
    line: LineKind,
}

fn cells() -> [Cell; 6] {
    let line = LineKind::default();
    let cell = |name, paths, line| Cell { name, paths, line };
    [
        cell("none", Loss::None, line),
        cell("random 5 % on each path", Loss::Random(50), line),
        cell("bursts of 4, 10 % on each path", Loss::Bursts(100), line),
        cell("random 5 % on the shared line", Loss::None, LineKind { loss: Loss::Random(50), ..line }),
        cell("jitter 100 ms", Loss::None, LineKind { jitter: ms(100), ..line }),
        cell("64 kbit/s line", Loss::None, LineKind { bits_per_second: Some(64_000), jitter: ms(3), ..line }),
    ]
}

const STRATEGIES: [(&str, Redundancy); 3] =
    [("off", Redundancy::Off), ("auto", Redundancy::Auto), ("always", Redundancy::Always)];

/// Plays some seconds of speech round and round, so that the piece begins anew when the call has settled.
#[derive(Debug)]
struct Round {
    frames: Arc<Vec<Frame>>,
    next: usize,
}

impl Round {
    fn new(frames: &Arc<Vec<Frame>>) -> Self {
        let settling = usize::try_from(SETTLING.as_millis() / 20).unwrap();
        let next = (frames.len() - settling % frames.len()) % frames.len();
        Self { frames: Arc::clone(frames), next }
    }
}

impl Source for Round {
    fn next_frame(&mut self, frame: &mut Frame) -> Result<SourceState, WavError> {
        *frame = self.frames[self.next];
        self.next = (self.next + 1) % self.frames.len();
        Ok(SourceState::Playing)
    }
}

/// Pieces of all recordings, each with the file in which it stands by itself.
fn pieces(files: &[PathBuf], out: &Path) -> Vec<(PathBuf, Arc<Vec<Frame>>)> {
    let mut pieces = Vec::new();
    for file in files {
        let mut source = WavSource::open(File::open(file).unwrap(), WavOptions::default()).unwrap();
        let mut frames = Vec::new();
        let mut frame = SILENCE;
        while source.next_frame(&mut frame).unwrap() == SourceState::Playing {
            frames.push(frame);
        }
        for piece in frames.chunks(PIECE_FRAMES).filter(|piece| piece.len() >= PIECE_FRAMES_MIN) {
            let path = out.join(format!("played-{}.wav", pieces.len()));
            let mut writer = recorder(&path);
            piece.iter().for_each(|frame| writer.write_frame(frame).unwrap());
            writer.finish().unwrap();
            pieces.push((path, Arc::new(piece.to_vec())));
        }
    }
    assert!(!pieces.is_empty(), "no recording is long enough");
    pieces
}

fn recorder(path: &Path) -> Box<dyn Sink> {
    Box::new(Recorder::new(BufWriter::new(File::create(path).unwrap())).unwrap())
}

/// Two ends behind such lines, connected, silent as yet.
fn connect(cell: Cell, redundancy: Redundancy, seed: u64) -> World {
    let mut world = World::new(2, redundancy);
    let now = world.now();
    for relay in [0, 1] {
        for side in [A, B] {
            let trace = seed * 4 + relay as u64 * 2 + side as u64;
            world.relays[relay].traces[side] = Some(Trace::new(cell.paths, trace, now));
            world.sides[side].muted = true;
        }
    }
    world.relays[0].delay = ms(47);
    world.relays[1].delay = ms(63);
    world.sides[B].line = Some(Line::new(cell.line, seed, now));
    world.describe();
    for (relay, side) in [(0, A), (0, B), (1, A), (1, B)] {
        // A stream would pass the line as if there were none.
        world.grant_with(relay, side, |access| access.tcp.clear());
    }
    for _ in 0..100 {
        if world.sides.iter().all(|side| side.session.is_connected()) {
            return world;
        }
        world.run(ms(100));
    }
    panic!("not connected within 10 s: {}", cell.name);
}

/// Plays one call; returns a line of the list.
fn call(cell: Cell, strategy: usize, seed: u64, pieces: &[(PathBuf, Arc<Vec<Frame>>)], out: &Path) -> String {
    let (name, redundancy) = STRATEGIES[strategy];
    let number = usize::try_from(seed).unwrap();
    let (played, spoken) = &pieces[number % pieces.len()];
    let (_, answer) = &pieces[(number + 1) % pieces.len()];
    let mut world = connect(cell, redundancy, seed);
    let words: Vec<&str> = cell.name.split_whitespace().collect();
    let heard = out.join(format!("heard-{}-{name}-{seed}.wav", words.join("-").replace(['/', '%'], "")));
    let config = EncoderConfig::default;
    let now = world.now();
    let source = |frames| Box::new(Round::new(frames));
    let alice = Endpoint::voice(source(spoken), None, config(), 1_000, now).unwrap();
    let bob = Endpoint::voice(source(answer), Some(recorder(&heard)), config(), 5_000, now).unwrap();
    world.sides[A].endpoint = Some(alice);
    world.sides[B].endpoint = Some(bob);
    world.run(SETTLING);
    let (settled, from) = (world.stats(B), world.sides[B].endpoint.as_ref().unwrap().stats());
    let length = ms(20) * u32::try_from(spoken.len()).unwrap();
    world.run(length + ms(1_000));
    let (stats, bob) = (world.stats(B), world.sides[B].endpoint.as_mut().unwrap());
    let sound = bob.stats();
    bob.finish();
    let sent: u64 = world.stats(A).paths.iter().map(|path| path.bytes_sent).sum();
    let kbits = sent as f64 * 8.0 / 1_000.0 / world.elapsed().as_secs_f64();
    format!(
        "{{\"cell\":{:?},\"strategy\":{name:?},\"trace\":{seed},\"played\":{played:?},\"heard\":{heard:?},\
         \"from_s\":{},\"length_s\":{},\"lost\":{},\"concealed_ms\":{},\"inserted_ms\":{},\"late\":{},\
         \"delay_ms\":{},\"rate\":{},\"kbit_s\":{kbits:.1}}}",
        cell.name,
        SETTLING.as_secs(),
        length.as_secs_f64(),
        stats.packets_lost.saturating_sub(settled.packets_lost),
        sound.concealed_ms.saturating_sub(from.concealed_ms),
        sound.inserted_ms.saturating_sub(from.inserted_ms),
        sound.late.saturating_sub(from.late),
        sound.delay_ms,
        world.sides[A].sound_rate.0,
    )
}

/// `loss_cells OUT TRACES CELL RECORDING…`; the cells whose names contain `CELL`, so an empty one means all.
fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let out = PathBuf::from(arguments.next().expect("a folder"));
    let traces: usize = arguments.next().and_then(|n| n.to_str()?.parse().ok()).expect("a number of traces");
    let wanted =
        arguments.next().and_then(|cell| cell.into_string().ok()).expect("a cell, or nothing for all");
    let cells: Vec<Cell> = cells().into_iter().filter(|cell| cell.name.contains(&wanted)).collect();
    assert!(!cells.is_empty(), "no cell is called so");
    let pieces = pieces(&arguments.map(PathBuf::from).collect::<Vec<_>>(), &out);
    let calls = cells.len() * STRATEGIES.len() * traces;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= calls {
                        break;
                    }
                    let (cell, rest) = (n % cells.len(), n / cells.len());
                    let seed = u64::try_from(rest / STRATEGIES.len()).unwrap();
                    println!("{}", call(cells[cell], rest % STRATEGIES.len(), seed, &pieces, &out));
                }
            });
        }
    });
}
