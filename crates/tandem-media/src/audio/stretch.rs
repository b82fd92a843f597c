//! Making sound a little shorter or longer without changing its pitch.
//!
//! One period of the voice is taken out, or repeated, with a cross-fade (overlap-add), so that no edge is heard.

/// Shortest period looked for: 2.5 ms, a voice of 400 Hz.
const PERIOD_MIN: usize = 120;
/// Longest period: 10 ms, a voice of 100 Hz.
pub const PERIOD_MAX: usize = 480;
/// Every how many samples are compared; enough for pitch, which is far below 6 kHz.
const STRIDE: usize = 4;
/// Below this similarity of neighbouring periods a change would be heard.
const SIMILAR: f32 = 0.6;

/// The period at the start of `pcm` (samples), if it is clear enough to work with.
#[must_use]
pub fn clear_period(pcm: &[i16]) -> Option<usize> {
    let (period, likeness) = best_period(pcm)?;
    (likeness >= SIMILAR).then_some(period)
}

/// The likeliest period at the start of `pcm`, however unclear; `None` if `pcm` is shorter than 20 ms.
#[must_use]
pub fn any_period(pcm: &[i16]) -> Option<usize> {
    best_period(pcm).map(|(period, _)| period)
}

/// Takes `period` samples out of the start of `pcm`, which must hold two periods; else does nothing.
/// Returns how many samples were taken out.
pub fn shorten(pcm: &mut Vec<i16>, period: usize) -> usize {
    if period == 0 || pcm.len() < 2 * period {
        return 0;
    }
    let mixed: Vec<i16> = (0..period).map(|i| fade(pcm[i], pcm[period + i], i, period)).collect();
    pcm.splice(..2 * period, mixed);
    period
}

/// Repeats `period` samples at the start of `pcm`, which must hold two periods; else does nothing.
/// Returns how many samples were added.
pub fn lengthen(pcm: &mut Vec<i16>, period: usize) -> usize {
    if period == 0 || pcm.len() < 2 * period {
        return 0;
    }
    let mixed: Vec<i16> = (0..period).map(|i| fade(pcm[period + i], pcm[i], i, period)).collect();
    pcm.splice(period..period, mixed);
    period
}

fn best_period(pcm: &[i16]) -> Option<(usize, f32)> {
    if pcm.len() < 2 * PERIOD_MAX {
        return None;
    }
    (PERIOD_MIN..=PERIOD_MAX)
        .step_by(STRIDE)
        .map(|period| (period, likeness(&pcm[..period], &pcm[period..2 * period])))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Normalised correlation, −1 to 1; 1 for two stretches of silence.
fn likeness(a: &[i16], b: &[i16]) -> f32 {
    let (mut ab, mut aa, mut bb) = (0.0f32, 0.0f32, 0.0f32);
    for (x, y) in a.iter().zip(b).step_by(STRIDE) {
        let (x, y) = (f32::from(*x), f32::from(*y));
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa + bb == 0.0 { 1.0 } else { ab / (aa * bb).sqrt().max(1.0) }
}

/// Moves from `from` to `to` as `i` goes from 0 to `length`.
fn fade(from: i16, to: i16, i: usize, length: usize) -> i16 {
    let (i, length) = (i as i32, length as i32);
    let mixed = (i32::from(from) * (length - i) + i32::from(to) * i) / length;
    mixed.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(period: usize, length: usize) -> Vec<i16> {
        let step = std::f32::consts::TAU / period as f32;
        (0..length).map(|i| ((i as f32 * step).sin() * 10_000.0) as i16).collect()
    }

    #[test]
    fn a_tone_stays_the_same_tone() {
        let tone = tone(240, 1_920);
        let period = clear_period(&tone[..960]).expect("clear");
        assert_eq!(period % 240, 0);
        for change in [shorten, lengthen] {
            let mut changed = tone[..960].to_vec();
            assert_eq!(change(&mut changed, period), period);
            assert_ne!(changed.len(), 960);
            let worst = changed.iter().zip(&tone).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
            assert!(worst < Some(20), "{worst:?}");
        }
    }

    #[test]
    fn silence_is_clear_and_short_input_is_left_alone() {
        assert!(clear_period(&[0; 960]).is_some());
        assert_eq!(clear_period(&[0; 959]), None);
        let mut short = vec![1; 100];
        assert_eq!(shorten(&mut short, 120), 0);
        assert_eq!(lengthen(&mut short, 120), 0);
        assert_eq!(short.len(), 100);
    }
}
