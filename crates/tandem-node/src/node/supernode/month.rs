//! What the relay forwarded in this calendar month (UTC), and whether the owner's cap is reached.

/// How often the count is brought up to date, in milliseconds.
pub(super) const COUNT_MS: u64 = 5_000;
/// How often it is kept, in milliseconds.
const KEEP_MS: u64 = 30_000;
const DAY_MS: u64 = 86_400_000;

/// Application bytes forwarded in one month, over any number of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Month {
    /// Months since January of the year 0.
    month: u64,
    bytes: u64,
    bytes_max: u64,
    /// The relay's own total (since its start) that is counted already.
    counted: u64,
    /// What was kept last, and when (monotonic).
    kept: Option<(u64, u64)>,
}

impl Month {
    /// Goes on from what [`Self::kept_text`] said in an earlier run. A text that cannot be read, or of another month,
    /// counts for nothing.
    pub(super) fn new(bytes_max: u64, kept: Option<&str>, unix_ms: u64) -> Self {
        let month = month_of(unix_ms);
        let earlier = kept.and_then(|text| {
            let (month, bytes) = text.split_once(' ')?;
            Some((month.parse::<u64>().ok()?, bytes.parse::<u64>().ok()?))
        });
        let (month, bytes) = earlier.filter(|(then, _)| is_now(*then, month)).unwrap_or((month, 0));
        Self { month, bytes, bytes_max, counted: 0, kept: None }
    }

    /// Counts up to the relay's own total. Says whether the cap is reached.
    pub(super) fn count(&mut self, total: u64, unix_ms: u64) -> bool {
        let month = month_of(unix_ms);
        let more = total.saturating_sub(self.counted);
        self.counted = total;
        if !is_now(self.month, month) {
            (self.month, self.bytes) = (month, 0);
        }
        self.bytes = self.bytes.saturating_add(more);
        self.is_reached()
    }

    /// The owner gives less, or more.
    pub(super) fn set_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    pub(super) fn is_reached(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is to be kept now, if it changed and some time has passed since.
    pub(super) fn poll_keep(&mut self, mono_ms: u64) -> Option<String> {
        let due = self.kept.is_none_or(|(at_ms, _)| mono_ms >= at_ms + KEEP_MS);
        let news = self.kept.is_none_or(|(_, bytes)| bytes != self.bytes);
        (due && news).then(|| {
            self.kept = Some((mono_ms, self.bytes));
            self.kept_text()
        })
    }

    /// The month and its bytes, for the store.
    pub(super) fn kept_text(&self) -> String {
        format!("{} {}", self.month, self.bytes)
    }
}

/// Whether the month counted goes on: a clock that was set back a little does not make its traffic undone.
fn is_now(counted: u64, month: u64) -> bool {
    counted == month || counted == month + 1
}

/// Months since January of the year 0, in UTC and the Gregorian calendar. Years are counted from March, so that the
/// leap day is a year's last and the lengths of months repeat every five (153 days).
fn month_of(unix_ms: u64) -> u64 {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = unix_ms / DAY_MS + DAYS_TO_1970;
    let era = days / DAYS_IN_400_YEARS;
    let day = days % DAYS_IN_400_YEARS;
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year) * 12 + from_march + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23, 00:00 UTC.
    const NOVEMBER: u64 = 1_795_392_000_000;
    const DAYS: u64 = 146_097;

    #[test]
    fn months_begin_when_they_do() {
        let days = |days: u64| days * DAY_MS;
        assert_eq!(month_of(0), 1970 * 12);
        assert_eq!(month_of(days(31) - 1), 1970 * 12);
        assert_eq!(month_of(days(31)), 1970 * 12 + 1);
        assert_eq!(month_of(NOVEMBER), 2026 * 12 + 10);
        // 2000-02-29, 2000-03-01, 2100-02-28, 2100-03-01 (no leap year).
        assert_eq!(month_of(951_782_400_000), 2000 * 12 + 1);
        assert_eq!(month_of(951_868_800_000), 2000 * 12 + 2);
        assert_eq!(month_of(4_107_456_000_000), 2100 * 12 + 1);
        assert_eq!(month_of(4_107_542_400_000), 2100 * 12 + 2);
        // Each of 400 years has 12 months, in order.
        let months: Vec<u64> = (0..DAYS).map(|day| month_of(days(day))).collect();
        assert!(months.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] + 1));
        assert_eq!(months.last(), Some(&(2369 * 12 + 11)));
    }

    #[test]
    fn the_cap_holds_for_the_month_and_over_restarts() {
        let mut month = Month::new(1_000, None, NOVEMBER);
        assert!(!month.count(400, NOVEMBER));
        assert!(!month.count(999, NOVEMBER));
        let kept = month.kept_text();

        let mut again = Month::new(1_000, Some(&kept), NOVEMBER + DAY_MS);
        assert_eq!(again.bytes(), 999);
        assert!(again.count(1, NOVEMBER + DAY_MS), "the new run's relay counts from 0");
        assert!(again.count(1, NOVEMBER + 7 * DAY_MS), "30 November");
        assert!(!again.count(1, NOVEMBER + 8 * DAY_MS), "1 December");
        assert_eq!(again.bytes(), 0);
        again.count(51, NOVEMBER + 8 * DAY_MS);
        assert_eq!(again.bytes(), 50);
        assert!(!again.count(51, NOVEMBER), "a clock set back begins no month");
        assert_eq!(again.bytes(), 50);

        assert_eq!(Month::new(1_000, Some(&kept), NOVEMBER + 40 * DAY_MS).bytes(), 0);
        assert_eq!(Month::new(1_000, Some("nonsense"), NOVEMBER).bytes(), 0);
        assert!(Month::new(0, None, NOVEMBER).is_reached(), "nothing is given");
        month.set_max(50);
        assert!(month.is_reached(), "less is given");
    }

    #[test]
    fn it_is_kept_at_least_once_a_minute_when_it_changed() {
        let mut month = Month::new(1_000, None, NOVEMBER);
        assert!(month.poll_keep(0).is_some());
        month.count(5, NOVEMBER);
        assert_eq!(month.poll_keep(KEEP_MS - 1), None);
        assert_eq!(month.poll_keep(KEEP_MS), Some(month.kept_text()));
        assert_eq!(month.poll_keep(9 * KEEP_MS), None, "nothing new");
    }
}
