//! Values as people write them.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Reads a span of time such as `90s`, `45m`, `2h`, `1d`, `1h30m`.
///
/// # Errors
/// A sentence that says how one is written.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a time is written like 90s, 45m, 2h, 1d or 1h30m, not {text:?}");
    if let Some(millis) = text.strip_suffix("ms") {
        return number(millis).map(Duration::from_millis).ok_or_else(wrong);
    }
    let mut rest = text.trim();
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, after) = rest.split_at(end);
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(wrong)?;
        let part = number(digits).and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        rest = &after[unit.len()..];
    }
    Ok(Duration::from_secs(seconds))
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Writes a span of time as [`duration`] reads it, down to the second.
pub fn show_duration(span: Duration) -> String {
    let mut seconds = span.as_secs();
    let mut text = String::new();
    for (unit, factor) in UNITS {
        if seconds >= factor {
            text += &format!("{}{unit}", seconds / factor);
            seconds %= factor;
        }
    }
    if text.is_empty() { format!("{}ms", span.as_millis()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("45m", 2700), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400)] {
            let span = duration(text).unwrap();
            assert_eq!(span.as_secs(), seconds, "{text}");
            assert_eq!(duration(&show_duration(span)).unwrap(), span);
        }
        assert_eq!(duration("250ms").unwrap().as_millis(), 250);
        for text in ["", "2", "h", "-1h", "2 h", "1x", "1.5h", "99999999999999999999d", "+ms", "ms", "1é"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
