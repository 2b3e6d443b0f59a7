//! A data directory and its exclusive ownership.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use crate::durable;

const LOCK: &str = "conclave.lock";

/// An owned data directory: no other process owns it while this exists.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    temporary: bool,
    lock: File,
}

impl Home {
    /// Makes `dir` if it is missing, and takes it.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { dir: dir.into(), source };
        durable::create_private_dir(dir).map_err(unwritable)?;
        let path = dir.join(LOCK);
        let lock = private_file().open(&path).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.into(), temporary: false, lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.into() }),
            Err(TryLockError::Error(source)) => Err(OpenError::io(&path, source)),
        }
    }

    /// Makes and takes a directory of its own that goes when this is dropped.
    pub(super) fn temporary() -> Result<Self, OpenError> {
        let base = std::env::temp_dir();
        let id = random_id().map_err(|source| OpenError::io(&base, source))?;
        let mut home = Self::take(&base.join(format!("conclave-{id}")))?;
        home.temporary = true;
        Ok(home)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the database lies.
    pub(super) fn database(&self) -> PathBuf {
        database(&self.dir)
    }

    /// Gives `file` and the lock to whoever has the directory, if that is allowed: what root puts there is the
    /// server's.
    pub(super) fn own(&self, file: &Path) {
        #[cfg(unix)]
        if let Ok(dir) = fs::metadata(&self.dir) {
            use std::os::unix::fs::{MetadataExt as _, chown};
            for path in [file, &self.dir.join(LOCK)] {
                // Whoever is not root makes files of its own, and that is right then.
                let _ = chown(path, Some(dir.uid()), Some(dir.gid()));
            }
        }
        #[cfg(not(unix))]
        let _ = file;
    }

    /// Takes the names away from a temporary directory whose files are all open, where files do without: then
    /// nothing is left of it, however this process ends.
    pub(super) fn hide(&self) {
        if cfg!(unix) {
            self.remove();
        }
    }

    fn remove(&self) {
        if self.temporary {
            // Whatever could not be removed is the system's to clean.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.remove();
        // A child that is being started may still have the file open: closing it here is not enough.
        let _ = self.lock.unlock();
    }
}

/// Where the database of the data directory `dir` lies.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("conclave.db")
}

/// Sixteen random bytes in hex.
pub(super) fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Options to open or create a file that its owner alone may read.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
