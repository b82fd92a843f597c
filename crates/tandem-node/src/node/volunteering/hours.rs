//! The hours of the day at which the owner lets the machine serve, as text.

use thiserror::Error;

const DAY_MIN: u16 = 24 * 60;

/// Why a text names no hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("they look like 18:00-23:00 or 22-6:30, or are: always")]
pub(super) struct HoursError;

/// From and until, in minutes after midnight; `None` for the whole day.
pub(super) fn parse(text: &str) -> Result<Option<(u16, u16)>, HoursError> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("always") {
        return Ok(None);
    }
    let (from, until) = text.split_once(['-', '–']).ok_or(HoursError)?;
    let (from, until) = (minute(from)?, minute(until)?);
    Ok((from % DAY_MIN != until % DAY_MIN).then_some((from % DAY_MIN, until % DAY_MIN)))
}

/// `18`, `18:00`, and 24:00 for the end of a day.
fn minute(text: &str) -> Result<u16, HoursError> {
    let (hour, minute) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or(HoursError)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let all = hour * 60 + minute;
    if minute < 60 && all <= DAY_MIN { Ok(all) } else { Err(HoursError) }
}

pub(super) fn text((from, until): (u16, u16)) -> String {
    format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_as_people_write_them() {
        assert_eq!(parse("18:00-23:00"), Ok(Some((1_080, 1_380))));
        assert_eq!(parse(" 22 – 6:30 "), Ok(Some((1_320, 390))));
        assert_eq!(parse("8-24:00"), Ok(Some((480, 0))));
        for always in ["always", "0-24", "7:00-7:00"] {
            assert_eq!(parse(always), Ok(None), "{always}");
        }
        for wrong in ["", "18", "18:00", "18:60-23", "25-3", "24:01-3", "a-b", "1800-2300", "-1-3", "18:-3"] {
            assert_eq!(parse(wrong), Err(HoursError), "{wrong}");
        }
        assert_eq!(text((1_320, 390)), "22:00-06:30");
    }
}
