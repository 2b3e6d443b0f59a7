//! Values as people read them.

use std::time::Duration;

use conclave_core::name::{ChannelName, InvalidName};

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

/// A channel's name, typed as it is or as it is shown: one `#` before it does not belong to it.
pub(super) fn channel(text: &str) -> Result<ChannelName, InvalidName> {
    ChannelName::new(text.strip_prefix('#').unwrap_or(text))
}

/// The name of a channel that does not exist yet.
pub(super) fn new_channel(text: &str) -> Result<ChannelName, String> {
    let name = channel(text).map_err(|error| error.to_string())?;
    match name.as_str().strip_prefix('#') {
        None => Ok(name),
        Some(rest) => Err(format!(
            "a channel's own name does not begin with '#', which is put before it where it is shown: write '{}'",
            rest.trim_start_matches(['#', ' '])
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_sign_is_taken_off_and_no_new_name_has_another() {
        for (typed, name) in [("ops", "ops"), ("#ops", "ops"), ("##ops", "#ops"), ("a#b", "a#b")] {
            assert_eq!(channel(typed).unwrap().as_str(), name);
        }
        assert!(channel("#").is_err());
        assert_eq!(new_channel("#Ops Team").unwrap().as_str(), "Ops Team");
        assert!(new_channel("##ops").unwrap_err().contains("write 'ops'"));
    }
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
