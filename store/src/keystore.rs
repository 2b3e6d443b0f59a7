//! The machine's key file: a 32-byte seed in URL-safe base64 that nobody but its owner can read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use conclave_core::key::SecretKey;
use zeroize::Zeroizing;

use crate::durable;

/// The key file's name in the configuration directory.
pub const FILE_NAME: &str = "key";

/// Why there is no key to use. `Display` says what is wrong, [`KeyError::advice`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no key file.
    #[error("this machine has no key yet ({} does not exist)", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// Others than the owner have access to the file.
    #[error("the key file {} is open to others (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file's content is no key.
    #[error("the key file {} holds no key: 32 bytes in URL-safe base64 belong there", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("the key file {} cannot be {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `created`.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl KeyError {
    /// What to type or do next.
    pub fn advice(&self) -> String {
        match self {
            Self::Missing { .. } => "run `conclave key` to make one".into(),
            Self::Exposed { path, .. } => format!(
                "run `chmod 600 {}`; if someone may have copied the key, replace it and remove this machine with `conclave machine remove`",
                path.display()
            ),
            Self::Malformed { path } => format!(
                "put the right file back, or move it away (`mv {0} {0}.broken`) and run `conclave key` for a new key",
                path.display()
            ),
            Self::Io { path, .. } => format!("look at `ls -l {}`", path.display()),
        }
    }
}

/// The path of the key file in a configuration directory.
pub fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

/// Reads the key in the configuration directory `dir`.
///
/// # Errors
/// [`KeyError`]; a file to which group or others have any access is not used.
pub fn load(dir: &Path) -> Result<SecretKey, KeyError> {
    let path = path(dir);
    let (bytes, metadata) = match durable::read(&path, 4096) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing { path }),
        Err(source) => return Err(KeyError::Io { path, what: "read", source }),
    };
    let bytes = Zeroizing::new(bytes);
    check_access(&path, &metadata)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| SecretKey::parse(text).ok())
        .ok_or(KeyError::Malformed { path })
}

/// Reads the key in the configuration directory `dir`, or makes both. Says whether the key is new. Of several
/// processes that do this at once, one makes the key and all get it.
///
/// # Errors
/// [`KeyError`], as [`load`] does; an existing file is never changed.
pub fn load_or_create(dir: &Path) -> Result<(SecretKey, bool), KeyError> {
    match load(dir) {
        Err(KeyError::Missing { .. }) => {}
        other => return other.map(|key| (key, false)),
    }
    let path = path(dir);
    let failed = |source| KeyError::Io { path: path.clone(), what: "created", source };
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| failed(io::Error::other(error)))?;
    let key = SecretKey::from_seed(&seed);
    durable::create_private_dir(dir).map_err(failed)?;
    match durable::create_private(&path, Zeroizing::new(key.expose()).as_bytes()) {
        Ok(()) => Ok((key, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(dir).map(|key| (key, false)),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(unix)]
fn check_access(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_access(_: &Path, _: &fs::Metadata) -> Result<(), KeyError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("deep/conclave");
        assert!(matches!(load(&dir), Err(KeyError::Missing { .. })));
        let (key, new) = load_or_create(&dir).unwrap();
        assert!(new);
        let (again, new) = load_or_create(&dir).unwrap();
        assert!(!new);
        assert_eq!(key.public(), again.public());
    }

    #[test]
    fn racing_makers_get_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_create(dir.path()).unwrap())).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(keys.iter().filter(|(_, new)| *new).count(), 1);
        assert!(keys.iter().all(|(key, _)| key.public() == keys[0].0.public()));
    }

    #[test]
    fn content_of_existing_clients_is_read_with_or_without_a_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let (key, _) = load_or_create(dir.path()).unwrap();
        let path = path(dir.path());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 43, "no padding, no line end: exactly what existing clients write");
        fs::write(&path, format!("{text}=\n")).unwrap();
        assert_eq!(load(dir.path()).unwrap().public(), key.public());
        for broken in ["", "short", &"A".repeat(44), "\u{0}\u{ff}"] {
            fs::write(&path, broken).unwrap();
            let error = load(dir.path()).unwrap_err();
            assert!(matches!(error, KeyError::Malformed { .. }));
            assert!(broken.len() < 5 || !format!("{error} {error:?} {}", error.advice()).contains(broken));
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        let path = path(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(dir.path()).unwrap_err();
            assert!(error.advice().contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(load(dir.path()).is_ok());
    }
}
