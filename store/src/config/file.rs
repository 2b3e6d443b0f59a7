//! The file on disk: read whole, replaced whole, by one process at a time.

use std::fs::{self, File, TryLockError};
use std::io;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::document::{self, Fault};
use super::{Change, Config, FILE_NAME};
use crate::durable;

/// More than anybody's registrations take.
const MAX_LEN: u64 = 1024 * 1024;
/// How long a writer waits for another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The configuration file of a directory. Holds no content: every call looks at the disk.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
}

/// Why the configuration cannot be read or changed. `Display` says what is wrong, [`ConfigError::advice`] what
/// to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is no configuration.
    #[error("{}, line {line}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// Everyone on the machine may write to the file, and so raise its levels and name approvers.
    #[error("{} can be changed by everyone (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another process has been writing for too long.
    #[error("another process has been writing {} for {} seconds", path.display(), PATIENCE.as_secs())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be {what}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ConfigError {
    /// What to type or do next.
    pub fn advice(&self) -> String {
        match self {
            Self::Malformed { path, line, .. } => {
                format!("correct line {line}, or move the file away: `mv {0} {0}.broken`", path.display())
            }
            Self::Exposed { path, .. } => {
                format!("check its levels and approvers, then run `chmod 600 {}`", path.display())
            }
            Self::Busy { .. } => "end the other conclave process (`ps -C conclave`), then try again".into(),
            Self::Io { path, .. } => format!("look at `ls -l {}`", path.display()),
        }
    }
}

/// What tells one content of the file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Option<(Option<SystemTime>, u64, u64)>);

impl ConfigFile {
    /// The configuration file in `dir`, existing or not.
    pub fn in_dir(dir: &Path) -> Self {
        Self { path: dir.join(FILE_NAME) }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. One that does not exist says nothing: [`Config::default`].
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        document::read(&self.text()?).map_err(|fault| self.malformed(fault))
    }

    /// Makes `changes`, all or none, durable when this returns. What other processes change meanwhile is kept.
    /// Returns what the file now says. A malformed file is not touched.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn change(&self, changes: &[Change]) -> Result<Config, ConfigError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        durable::create_private_dir(dir).map_err(|source| self.io("written", source))?;
        let _lock = self.lock()?;
        let old = self.text()?;
        document::read(&old).map_err(|fault| self.malformed(fault))?;
        let new = document::change(&old, changes).map_err(|fault| self.malformed(fault))?;
        let config = document::read(&new).map_err(|fault| self.malformed(fault))?;
        // Who says a level again wants it heard again, though it be the same.
        let level = |change: &Change| matches!(change, Change::SetLevel(_) | Change::DefaultPermission(_));
        if new != old || changes.iter().any(level) {
            durable::replace(&self.path, new.as_bytes()).map_err(|source| self.io("written", source))?;
        }
        Ok(config)
    }

    /// The fingerprint of the content as it is now: another one later means that the file should be read again.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(fs::metadata(&self.path).ok().map(|metadata| {
            #[cfg(unix)]
            let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
            #[cfg(not(unix))]
            let inode = 0;
            (metadata.modified().ok(), metadata.len(), inode)
        }))
    }

    fn text(&self) -> Result<String, ConfigError> {
        let bytes = match durable::read(&self.path, MAX_LEN) {
            Ok((bytes, metadata)) => {
                self.check_mode(&metadata)?;
                bytes
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(source) => return Err(self.io("read", source)),
        };
        String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|b| **b == b'\n').count() + 1;
            self.malformed(Fault { line, what: "this is not UTF-8 text".into() })
        })
    }

    #[cfg(unix)]
    fn check_mode(&self, metadata: &fs::Metadata) -> Result<(), ConfigError> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o002 == 0 { Ok(()) } else { Err(ConfigError::Exposed { path: self.path.clone(), mode }) }
    }

    #[cfg(not(unix))]
    fn check_mode(&self, _: &fs::Metadata) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The lock is on a file of its own: the configuration itself is another file after every change.
    fn lock(&self) -> Result<File, ConfigError> {
        let path = self.path.with_file_name(format!("{FILE_NAME}.lock"));
        // Whoever can open it can hold the lock for ever.
        let file = durable::private_file().open(path).map_err(|source| self.io("written", source))?;
        #[cfg(unix)]
        if file.metadata().is_ok_and(|it| it.mode() & 0o077 != 0) {
            // An earlier version made it.
            let _ = file.set_permissions(fs::Permissions::from_mode(0o600));
        }
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => return Err(ConfigError::Busy { path: self.path.clone() }),
                // A file system without locks: one writer at a time is then the user's to see to.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(source)) => return Err(self.io("written", source)),
            }
        }
    }

    fn malformed(&self, Fault { line, what }: Fault) -> ConfigError {
        ConfigError::Malformed { path: self.path.clone(), line, what }
    }

    fn io(&self, what: &'static str, source: io::Error) -> ConfigError {
        ConfigError::Io { path: self.path.clone(), what, source }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Override, Server};
    use super::*;
    use conclave_core::level::{Level, Scope};
    use conclave_core::name::{ChannelName, MachineName, UserName};

    fn level(channel: &str) -> Change {
        Change::SetLevel(Override {
            server: "ws://a".parse().unwrap(),
            scope: Scope::Channel(ChannelName::new(channel).unwrap()),
            level: Level::Act,
            mentions_only: false,
        })
    }

    #[test]
    fn writers_at_once_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::in_dir(dir.path());
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..10 {
                        file.change(&[level(&format!("{writer}-{n}"))]).unwrap();
                    }
                });
            }
        });
        assert_eq!(file.load().unwrap().overrides.len(), 40);
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["config.toml", "config.toml.lock"]);
    }

    #[test]
    fn a_malformed_file_is_named_with_its_line_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::in_dir(dir.path());
        for (content, line) in [(&b"a = 1\nb = = 2\n"[..], 2), (b"a = 1\n\n\xff\n", 3)] {
            fs::write(file.path(), content).unwrap();
            let error = file.change(&[level("x")]).unwrap_err();
            assert!(matches!(&error, ConfigError::Malformed { line: at, .. } if *at == line), "{error}");
            assert!(!error.to_string().contains('\n'));
            assert!(error.advice().contains("mv "));
            assert_eq!(fs::read(file.path()).unwrap(), content);
        }
    }

    #[test]
    fn a_fingerprint_tells_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile::in_dir(dir.path());
        let none = file.fingerprint();
        file.change(&[level("x")]).unwrap();
        let one = file.fingerprint();
        assert_ne!(none, one);
        file.change(&[level("x")]).unwrap();
        let again = file.fingerprint();
        assert_ne!(one, again, "who says it again is heard again");
        let server = Server {
            url: "ws://a".parse().unwrap(),
            username: UserName::new("ann").unwrap(),
            machine: MachineName::new("m").unwrap(),
        };
        file.change(&[Change::AddServer(server.clone())]).unwrap();
        let registered = file.fingerprint();
        assert_ne!(again, registered);
        file.change(&[Change::AddServer(server)]).unwrap();
        assert_eq!(registered, file.fingerprint(), "a level is not said by registering again");
    }
}
