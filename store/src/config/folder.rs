//! Where the key and the configuration are.

use std::ffi::OsString;
use std::path::PathBuf;

/// The configuration folder where none is named: `$CONCLAVE_CONFIG_DIR`, or `conclave` in the platform's folder
/// for configuration (`$XDG_CONFIG_HOME`, `~/.config`; `%APPDATA%` on Windows). `variable` reads the environment.
/// `None` when not even a home is known.
pub fn default_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = folder("CONCLAVE_CONFIG_DIR") {
        return Some(named);
    }
    let base = if cfg!(windows) {
        folder("APPDATA")
    } else {
        let absolute = folder("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        absolute.or_else(|| folder("HOME").map(|home| home.join(".config")))
    };
    base.map(|base| base.join("conclave"))
}

#[cfg(all(test, not(windows)))]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_variable_names_the_folder() {
        let all = [("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/xdg"), ("CONCLAVE_CONFIG_DIR", "/named")];
        let folder = |known: &[(&str, &str)]| {
            default_folder(|name| known.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(folder(&all), Some("/named".into()));
        assert_eq!(folder(&all[..2]), Some("/xdg/conclave".into()));
        assert_eq!(folder(&all[..1]), Some("/home/a/.config/conclave".into()));
        assert_eq!(
            folder(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "relative")]),
            Some("/home/a/.config/conclave".into())
        );
        assert_eq!(folder(&[]), None);
    }
}
