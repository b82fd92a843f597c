//! What the demo says while it runs.

use std::time::Instant;

/// Prints one line a step, with the seconds since the start; silent for `--json`.
#[derive(Debug)]
pub(crate) struct Screen {
    begun: Instant,
    speaks: bool,
}

impl Screen {
    pub(crate) fn new(speaks: bool) -> Self {
        Self { begun: Instant::now(), speaks }
    }

    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        if self.speaks {
            println!("{:6.1} s  {}", self.begun.elapsed().as_secs_f64(), text.as_ref());
        }
    }
}
