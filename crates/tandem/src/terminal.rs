//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

/// Asks for a secret without showing it. `None` where nobody can be asked.
pub(crate) fn ask_secret(question: &str) -> io::Result<Option<Zeroizing<String>>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    eprint!("{question}: ");
    io::stderr().flush()?;
    let hidden = hide::Hidden::begin()?;
    let mut line = Zeroizing::new(String::new());
    stdin.lock().read_line(&mut line)?;
    drop(hidden);
    eprintln!();
    Ok(Some(line))
}

#[cfg(unix)]
mod hide {
    use std::io;

    use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

    /// While it lives the terminal shows nothing that is typed.
    pub(super) struct Hidden(Termios);

    impl Hidden {
        pub(super) fn begin() -> io::Result<Self> {
            let before = tcgetattr(io::stdin())?;
            let mut quiet = before.clone();
            quiet.local_flags.remove(LocalFlags::ECHO);
            tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
            Ok(Self(before))
        }
    }

    impl Drop for Hidden {
        fn drop(&mut self) {
            if let Err(error) = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0) {
                tracing::warn!(%error, "the terminal could not be set back");
            }
        }
    }
}

#[cfg(not(unix))]
mod hide {
    /// Elsewhere what is typed is shown.
    pub(super) struct Hidden;

    impl Hidden {
        pub(super) fn begin() -> std::io::Result<Self> {
            Ok(Self)
        }
    }
}
