//! What arrives at this node, once it is decrypted, written down: for `tandem-lab --privacy`, which searches it for
//! addresses that must not be there.
//!
//! It holds all that a person says by signalling. So it is in no release: only a build with the cargo feature `tap` has
//! it (the program `tandem-tapped`), and that writes only where `TANDEM_TAP` names a file. In every other build what
//! follows is empty, and the compiler leaves nothing of it.

pub(crate) use inner::Stream;
#[cfg(feature = "tap")]
pub use inner::warn_if_on;

/// Bytes of one transport connection's stream, or of one media socket.
#[cfg(not(feature = "tap"))]
mod inner {
    use std::fmt::Display;

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Stream;

    impl Stream {
        pub(crate) const fn new(_kind: &'static str, _from: &impl Display) -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "it has something to do in the other build")]
        pub(crate) const fn received(&self, _bytes: &[u8]) {}
    }
}

#[cfg(feature = "tap")]
mod inner {
    use std::fmt::{Display, Write as _};
    use std::fs::File;
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};

    use crate::installation::unix_ms;

    const VARIABLE: &str = "TANDEM_TAP";
    /// A file that is full says so in its last line.
    const FILE_BYTES_MAX: usize = 256 << 20;

    static SINK: OnceLock<Option<Mutex<Sink>>> = OnceLock::new();
    static STREAMS: AtomicU64 = AtomicU64::new(0);

    struct Sink {
        file: File,
        room: usize,
    }

    /// Numbered, so that its pieces can be put together again.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Stream {
        kind: &'static str,
        number: u64,
    }

    impl Stream {
        /// `kind` is a word; `from` says whose it is, for people who read the file.
        pub(crate) fn new(kind: &'static str, from: &impl Display) -> Self {
            let stream = Self { kind, number: STREAMS.fetch_add(1, Ordering::Relaxed) };
            write(|| format!("{} {kind} {} # {from}\n", unix_ms(), stream.number));
            stream
        }

        pub(crate) fn received(&self, bytes: &[u8]) {
            if bytes.is_empty() {
                return;
            }
            write(|| {
                let mut line = format!("{} {} {} ", unix_ms(), self.kind, self.number);
                for byte in bytes {
                    // A string takes everything.
                    write!(line, "{byte:02x}").ok();
                }
                line.push('\n');
                line
            });
        }
    }

    /// Says on standard error that this node writes down what it receives.
    pub fn warn_if_on() {
        if sink().is_some() {
            eprintln!(
                "This build writes all that it receives, decrypted, to the file in {VARIABLE}. Tests only."
            );
        }
    }

    fn sink() -> Option<&'static Mutex<Sink>> {
        let open = || {
            let path = std::env::var_os(VARIABLE)?;
            let mut options = File::options();
            options.append(true).create(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            // Whoever asked for it reads the file, and sees that there is none.
            Some(Mutex::new(Sink { file: options.open(path).ok()?, room: FILE_BYTES_MAX }))
        };
        SINK.get_or_init(open).as_ref()
    }

    fn write(line: impl FnOnce() -> String) {
        let Some(sink) = sink() else { return };
        let line = line();
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.room == 0 {
            return;
        }
        let left = sink.room.checked_sub(line.len());
        sink.room = left.unwrap_or(0);
        let line = if left.is_some() { line.as_str() } else { "full\n" };
        // A disk that is full is found out by its reader, as above.
        sink.file.write_all(line.as_bytes()).ok();
    }
}
