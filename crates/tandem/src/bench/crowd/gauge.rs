//! What one process uses, as the kernel counts it.

use anyhow::{Context, Result};

use crate::bench::namespace::Traffic;

/// Kernel ticks a second in /proc (USER_HZ, the same on every Linux that Tandem runs on).
const TICKS_PER_SECOND: f64 = 100.0;

/// One process at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    /// Proportional set size, in 10⁶ bytes.
    pub(super) pss_mb: f64,
    /// Pages of no other process, in 10⁶ bytes.
    pub(super) private_mb: f64,
    /// Processor time since its start.
    pub(super) cpu_ms: f64,
    pub(super) traffic: Traffic,
}

impl Gauge {
    /// # Errors
    /// When the process is gone.
    pub(super) fn read(pid: u32, traffic: Traffic) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is the node gone?"))
        };
        let memory = read("smaps_rollup")?;
        let private = ["Private_Clean", "Private_Dirty"].map(|name| megabytes(&memory, name));
        Ok(Self {
            pss_mb: megabytes(&memory, "Pss").context("no line Pss in smaps_rollup")?,
            private_mb: private
                .into_iter()
                .sum::<Option<f64>>()
                .context("no line Private in smaps_rollup")?,
            cpu_ms: cpu_ms(&read("stat")?).context("not a stat file of proc(5)")?,
            traffic,
        })
    }
}

/// The line `NAME: NUMBER kB` of a smaps file.
fn megabytes(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Fields 14 and 15 of proc_pid_stat(5); the name in parentheses before them may hold anything.
fn cpu_ms(text: &str) -> Option<f64> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * 1_000.0 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let memory =
            "00400000-7ffd---p 0 00:00 0 [rollup]\nRss:  9000 kB\nPss:  1000 kB\nPss_Dirty: 500 kB\n";
        assert_eq!(megabytes(memory, "Pss"), Some(1.024));
        assert_eq!(megabytes(memory, "Private_Clean"), None);
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 25 17 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ms(stat), Some(420.0));
        assert_eq!(cpu_ms("nothing"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let gauge = Gauge::read(std::process::id(), Traffic::default()).expect("it runs");
        assert!(gauge.pss_mb >= gauge.private_mb && gauge.private_mb > 0.0, "{gauge:?}");
    }
}
