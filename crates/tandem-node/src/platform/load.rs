//! How busy the machine's processors are, with all programs on it.

use thiserror::Error;

/// A reading that this system does not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unmeasured(pub &'static str);

/// Time of all processors since the machine started, in ticks of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    pub free: u64,
    pub total: u64,
}

/// Reads the counters.
///
/// # Errors
/// The system has none that this program knows.
pub fn cpu_times() -> Result<CpuTimes, Unmeasured> {
    if !cfg!(target_os = "linux") {
        return Err(Unmeasured("only Linux is asked how busy its processors are"));
    }
    let text = std::fs::read_to_string("/proc/stat").map_err(|_| Unmeasured("/proc/stat cannot be read"))?;
    parse(&text).ok_or(Unmeasured("/proc/stat is not in the form that is known"))
}

/// Of `/proc/stat` (proc(5)): `cpu user nice system idle iowait irq softirq steal guest guest_nice`. Waiting for a disk
/// is free time; what another virtual machine took is not. Guests are in `user` already.
fn parse(text: &str) -> Option<CpuTimes> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = *fields.get(3)?;
    let waiting = fields.get(4).copied().unwrap_or(0);
    let total = fields.iter().try_fold(0_u64, |sum, field| sum.checked_add(*field))?;
    Some(CpuTimes { free: idle.saturating_add(waiting), total })
}

impl CpuTimes {
    /// Percent of the processors' time that was free since an earlier reading; `None` when no time passed.
    #[must_use]
    pub fn free_percent_since(&self, earlier: &Self) -> Option<u32> {
        let total = self.total.checked_sub(earlier.total).filter(|total| *total > 0)?;
        // The kernel's count of waiting may go backwards by a little.
        let free = self.free.saturating_sub(earlier.free).min(total);
        u32::try_from(u128::from(free) * 100 / u128::from(total)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "cpu  1000 50 400 8000 300 0 20 10 5 0\ncpu0 1000 50 400 8000 300 0 20 10 5 0\nintr 1 2\n";
    const AFTER: &str = "cpu  1500 50 500 8300 400 0 20 10 5 0\ncpu0 1 1 1 1\n";

    #[test]
    fn what_was_free_between_two_readings() {
        let (before, after) = (parse(BEFORE).unwrap(), parse(AFTER).unwrap());
        assert_eq!(before, CpuTimes { free: 8_300, total: 9_780 });
        assert_eq!(after.free_percent_since(&before), Some(40));
        assert_eq!(before.free_percent_since(&after), None, "the counters began anew");
        assert_eq!(before.free_percent_since(&before), None);
    }

    #[test]
    fn old_kernels_and_rubbish() {
        assert_eq!(parse("cpu 1 2 3 4\n"), Some(CpuTimes { free: 4, total: 10 }));
        for text in ["", "cpu0 1 2 3 4", "cpu 1 2 3", "cpu 1 2 x 4", "cpu -1 2 3 4"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let most = format!("cpu {} {} 3 4", u64::MAX, u64::MAX);
        assert_eq!(parse(&most), None);
    }
}
