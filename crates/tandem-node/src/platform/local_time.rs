//! Days, months and this machine's time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const DAY_MS: u64 = 86_400_000;
const DAY_S: i64 = 86_400;

/// The day of a moment: days since 1970-01-01, in UTC.
#[must_use]
pub fn day_of(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}

/// The month of a day, counted from January of the year 0, in UTC.
#[must_use]
pub fn month_of(day: u64) -> u64 {
    let date = date(day);
    let (year, month) = (u64::try_from(date.year()).unwrap_or(0), u64::try_from(date.month()).unwrap_or(1));
    year * 12 + month - 1
}

/// The first day of that day's month.
#[must_use]
pub fn month_begins(day: u64) -> u64 {
    day.saturating_sub(u64::try_from(date(day).day()).unwrap_or(1) - 1)
}

/// A day as people write it for machines: 2026-11-23.
#[must_use]
pub fn day_text(day: u64) -> String {
    date(day).to_string()
}

/// Local time minus UTC at that moment, in minutes; 0 where the system names no time zone.
#[must_use]
pub fn utc_offset_min(unix_ms: u64) -> i16 {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let seconds = at.map_or(0, |at| TimeZone::system().to_offset(at).seconds());
    i16::try_from(seconds / 60).unwrap_or(0)
}

/// Days beyond the calendar (the year 9999) count as its last.
fn date(day: u64) -> Date {
    let seconds = i64::try_from(day).unwrap_or(i64::MAX).saturating_mul(DAY_S);
    let since = SignedDuration::from_secs(seconds);
    Date::constant(1970, 1, 1).checked_add(since).unwrap_or(Date::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_when_they_do() {
        assert_eq!((day_text(0), month_of(0)), ("1970-01-01".to_owned(), 1970 * 12));
        // 2000-02-29, 2000-03-01, 2100-02-28, 2100-03-01 (no leap year), 2026-11-23.
        assert_eq!((month_of(11_016), month_begins(11_016)), (2000 * 12 + 1, 11_016 - 28));
        assert_eq!((month_of(11_017), month_begins(11_017)), (2000 * 12 + 2, 11_017));
        assert_eq!(month_of(47_540) + 1, month_of(47_541));
        assert_eq!(day_text(20_780), "2026-11-23");
        assert_eq!(month_begins(20_780), 20_780 - 22);
        assert_eq!(day_of(86_400_000 - 1), 0);
        assert_eq!(day_text(u64::MAX), "9999-12-31");
    }

    #[test]
    fn the_offset_is_that_of_a_time_zone() {
        assert!(utc_offset_min(0).abs() <= 26 * 60);
        assert!(utc_offset_min(u64::MAX).abs() <= 26 * 60);
    }
}
