//! The driver's clock, given to every machine.

/// A moment: milliseconds since the driver started (never goes back) and the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Monotonic, in milliseconds since the driver started.
    pub mono_ms: u64,
    /// Wall clock, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
}

impl Now {
    /// The same moment, `ms` later on both clocks.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self { mono_ms: self.mono_ms + ms, unix_ms: self.unix_ms + ms }
    }
}
