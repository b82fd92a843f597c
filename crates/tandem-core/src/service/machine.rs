//! How busy the machine is, as far as it concerns what is taken on: its line, and its processors.

use crate::time::Now;

/// A spike is no load: what is measured of the processors counts for as much as it lasted, of this.
const SMOOTHING_MS: u64 = 60_000;
/// What is shed is taken up again when the load has fallen by so much, in per mille, and not with every tick.
const SLACK_PERMILLE: u64 = 100;

/// Both in their owner's measure.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    line_percent: u32,
    smoothed_permille: u64,
    /// Follows `smoothed_permille` upwards at once, and downwards at a distance.
    held_permille: u64,
    noted_ms: Option<u64>,
}

impl Machine {
    pub(super) fn set_line(&mut self, percent: u32) {
        self.line_percent = percent.min(100);
    }

    /// `percent`: since the last time.
    pub(super) fn note_processors(&mut self, percent: u32, now: Now) {
        let sample = u64::from(percent.min(100)) * 10;
        let lasted_ms = now.mono_ms.saturating_sub(self.noted_ms.unwrap_or(now.mono_ms));
        self.noted_ms = Some(now.mono_ms);
        let whole_ms = lasted_ms + SMOOTHING_MS;
        self.smoothed_permille =
            (self.smoothed_permille * SMOOTHING_MS + sample * lasted_ms).div_ceil(whole_ms).min(1_000);
        self.held_permille =
            self.held_permille.clamp(self.smoothed_permille, self.smoothed_permille + SLACK_PERMILLE);
    }

    /// Whichever is nearer to its end.
    pub(super) fn load_percent(&self) -> u32 {
        let processors = u32::try_from(self.held_permille / 10).unwrap_or(100);
        self.line_percent.max(processors.min(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        Now { mono_ms: 1_000 + second * 1_000, unix_ms: 0 }
    }

    /// So many seconds of this from then on, ten seconds a time.
    fn run(machine: &mut Machine, (from, for_s): (u64, u64), percent: u32) -> u64 {
        for second in (from + 10..=from + for_s).step_by(10) {
            machine.note_processors(percent, at(second));
        }
        from + for_s
    }

    #[test]
    fn a_spike_is_no_load_and_what_lasts_is() {
        let mut machine = Machine::default();
        machine.note_processors(100, at(0));
        assert_eq!(machine.load_percent(), 0, "nothing is known of how long");
        let end = run(&mut machine, (0, 20), 100);
        assert!(machine.load_percent() < 40, "{}", machine.load_percent());
        let end = run(&mut machine, (end, 300), 0);
        assert!(machine.load_percent() <= 12, "{}", machine.load_percent());
        run(&mut machine, (end, 600), 100);
        assert!(machine.load_percent() >= 99, "{}", machine.load_percent());
    }

    #[test]
    fn a_load_that_swings_does_not_switch_to_and_fro() {
        let mut machine = Machine::default();
        let mut end = run(&mut machine, (0, 900), 93);
        let (mut before, mut switched) = (machine.load_percent() >= 91, 0);
        assert!(before);
        for round in 0..60 {
            end = run(&mut machine, (end, 10), if round % 2 == 0 { 84 } else { 98 });
            let sheds = machine.load_percent() >= 91;
            switched += u32::from(sheds != before);
            before = sheds;
        }
        assert_eq!(switched, 0);
        run(&mut machine, (end, 600), 20);
        assert!(machine.load_percent() <= 30);
    }

    #[test]
    fn the_line_counts_at_once_and_the_nearer_to_its_end_counts() {
        let mut machine = Machine::default();
        machine.set_line(80);
        assert_eq!(machine.load_percent(), 80);
        run(&mut machine, (0, 900), 95);
        assert!(machine.load_percent() >= 94);
        machine.set_line(120);
        assert_eq!(machine.load_percent(), 100);
    }
}
