//! Values as people read them.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Writes a span of time as [`conclave_core::time::span`] reads it, down to the second.
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
    use conclave_core::time::span;

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["90s", "45m", "2h", "1d", "1h30m", "2w3d4h5m6s", "250ms"] {
            let once = span(text).unwrap();
            assert_eq!(span(&show_duration(once)), Ok(once), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(5400)), "1h30m");
    }
}
