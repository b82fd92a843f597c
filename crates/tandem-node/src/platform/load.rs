//! How busy the machine's processors are, with all programs on it; and what this program takes of them, or would take
//! were they free.

use std::collections::BTreeMap;

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

/// What this program's threads did, in nanoseconds: ran, and waited for a processor. By thread.
type Threads = BTreeMap<u32, (u64, u64)>;

/// Threads looked at; this program has a few dozen.
const THREADS_MAX: usize = 1_024;

/// What this program takes of the machine's processors.
///
/// Other programs count by what they make it wait, and not by what they run: a machine that works on something long
/// beside it does not keep a node from answering, since whoever sleeps most of the time is let in first.
#[derive(Debug, Default)]
pub struct OwnUse {
    last: Option<(u64, Threads)>,
}

impl OwnUse {
    /// Percent of all processors' time since the last call that this program ran, or was ready to run and waited.
    /// `None`: the first call, or the system does not say. `mono_ms`: now.
    pub fn sample(&mut self, mono_ms: u64) -> Option<u32> {
        let threads = threads()?;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (since_ms, before) = self.last.replace((mono_ms, threads.clone()))?;
        wanted_percent(&before, &threads, mono_ms.checked_sub(since_ms)?, processors)
    }
}

/// Of `/proc/self/task/*/schedstat` (Linux's sched-stats.rst): nanoseconds on a processor, nanoseconds waiting for one,
/// and how often.
fn threads() -> Option<Threads> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let read = tasks.flatten().take(THREADS_MAX).filter_map(|task| {
        let id = task.file_name().to_str()?.parse().ok()?;
        Some((id, parse_thread(&std::fs::read_to_string(task.path().join("schedstat")).ok()?)?))
    });
    Some(read.collect::<Threads>()).filter(|threads| !threads.is_empty())
}

fn parse_thread(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_whitespace().map(str::parse::<u64>);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// A thread that has ended since is not counted, one that began since is.
fn wanted_percent(before: &Threads, now: &Threads, passed_ms: u64, processors: usize) -> Option<u32> {
    let wanted_ns = now.iter().fold(0_u128, |sum, (id, (ran, waited))| {
        let (ran_before, waited_before) = before.get(id).copied().unwrap_or_default();
        sum + u128::from(ran.saturating_sub(ran_before)) + u128::from(waited.saturating_sub(waited_before))
    });
    let whole_ns = u128::from(passed_ms) * 1_000_000 * processors as u128;
    u32::try_from((wanted_ns * 100).checked_div(whole_ns)?.min(100)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_and_what_waited_is_wanted() {
        assert_eq!(parse_thread("1500 200 7\n"), Some((1_500, 200)));
        for text in ["", "1", "x 2 3", "-1 2 3"] {
            assert_eq!(parse_thread(text), None, "{text:?}");
        }
        let of = |threads: &[(u32, u64, u64)]| -> Threads {
            threads.iter().map(|(id, ran, waited)| (*id, (ran * 1_000_000, waited * 1_000_000))).collect()
        };
        // Of two processors' ten seconds: 3 s ran, 1 s waited; one thread ended, one began.
        let before = of(&[(1, 500, 0), (2, 9_000, 9_000)]);
        let now = of(&[(1, 2_500, 500), (3, 1_000, 500)]);
        assert_eq!(wanted_percent(&before, &now, 10_000, 2), Some(20));
        assert_eq!(wanted_percent(&now, &before, 1, 1), Some(100), "never more");
        assert_eq!(wanted_percent(&before, &now, 0, 2), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_that_works_wants_more_than_one_that_sleeps() {
        let began = std::time::Instant::now();
        let ms = || u64::try_from(began.elapsed().as_millis()).unwrap();
        let mut own = OwnUse::default();
        assert_eq!(own.sample(ms()), None);
        let processors = std::thread::available_parallelism().unwrap().get();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..processors * 2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(300));
            let wanted = own.sample(ms());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            // Twice as many threads as processors never sleep: they run, or they wait.
            assert!(wanted.is_some_and(|percent| percent >= 60), "{wanted:?}");
        });
    }

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
