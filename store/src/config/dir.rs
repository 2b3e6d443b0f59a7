//! Where the key and the configuration are.

use std::ffi::OsString;
use std::path::PathBuf;

/// The configuration directory where none is named: `$CONCLAVE_CONFIG_DIR`, or `conclave` in the platform's directory
/// for configuration (`$XDG_CONFIG_HOME`, `~/.config`; `%APPDATA%` on Windows). `variable` reads the environment.
/// `None` when not even a home is known.
pub fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let dir = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = dir("CONCLAVE_CONFIG_DIR") {
        return Some(named);
    }
    let base = if cfg!(windows) {
        dir("APPDATA")
    } else {
        let absolute = dir("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        absolute.or_else(|| dir("HOME").map(|home| home.join(".config")))
    };
    base.map(|base| base.join("conclave"))
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_names_the_dir() {
        let all = [("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/xdg"), ("CONCLAVE_CONFIG_DIR", "/named")];
        let dir = |known: &[(&str, &str)]| {
            default_dir(|name| known.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(dir(&all), Some("/named".into()));
        assert_eq!(dir(&all[..2]), Some("/xdg/conclave".into()));
        assert_eq!(dir(&all[..1]), Some("/home/a/.config/conclave".into()));
        assert_eq!(
            dir(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")]),
            Some("/home/a/.config/conclave".into())
        );
        assert_eq!(dir(&[]), None);
    }
}
