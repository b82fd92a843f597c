//! What a process has used, read from outside.

use std::fs;

use anyhow::{Context, Result};

/// Nanoseconds its threads have run, those that ended since it began excluded. Ticks (`/proc/PID/stat`) are too coarse.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("is the server still there?")?;
    let mut total = 0;
    for task in tasks {
        // A thread may end while the folder is read.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let ran = text.split_whitespace().next().context("schedstat is empty")?;
        total += ran.parse::<u64>()?;
    }
    Ok(total)
}

/// Resident memory that is the process's own, in bytes.
pub(crate) fn private_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
    };
    let dirty = kib("Private_Dirty:").context("no Private_Dirty in smaps_rollup")?;
    Ok((dirty + kib("Private_Clean:").unwrap_or(0)) * 1_024)
}

/// How many threads it has.
pub(crate) fn threads(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}
