//! A data directory and its exclusive ownership.
//!
//! Root may back up or restore a directory of the server's user, who may be hostile: in a directory of another
//! user's, only files of that user are touched, and no link is followed out of it.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::error::OpenError;
use crate::durable::{self, private_file};

const LOCK: &str = "conclave.lock";

/// An owned data directory: no other process owns it while this exists.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    metadata: Metadata,
    temporary: bool,
    lock: File,
}

impl Home {
    /// Makes `dir` if it is missing, and takes it.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { dir: dir.into(), source };
        durable::create_private_dir(dir).map_err(unwritable)?;
        let metadata = fs::metadata(dir).map_err(unwritable)?;
        let mode = mode(&metadata);
        if mode & 0o002 != 0 {
            return Err(OpenError::Exposed { dir: dir.into(), mode });
        }
        let path = dir.join(LOCK);
        refuse_foreign(&path, &metadata)?;
        let mut lock = private_file_itself().open(&path).map_err(unwritable)?;
        // What was looked at above may have been replaced since.
        let found = lock.metadata().map_err(unwritable)?;
        refuse_foreign_file(&path, &found, &metadata)?;
        match lock.try_lock() {
            Ok(()) => {
                if mode & 0o077 != 0 {
                    let dir = dir.display();
                    warn!(
                        "other users may enter the data directory {dir} (mode {mode:04o}): run `chmod 700 {dir}`"
                    );
                }
                // Only for messages: a lock without a process id is one, too.
                let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
                Ok(Self { dir: dir.into(), metadata, temporary: false, lock })
            }
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::InUse { dir: dir.into(), process: holder(&mut lock) })
            }
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

    /// Whether the directory belongs to another user than this process.
    pub(super) fn is_foreign(&self) -> bool {
        is_foreign(&self.metadata)
    }

    /// Refuses a path in the directory that leads to somebody else's file. One that leads nowhere is fine.
    pub(super) fn refuse_foreign(&self, path: &Path) -> Result<(), OpenError> {
        refuse_foreign(path, &self.metadata)
    }

    /// Gives `file` and the lock to the directory's owner, if that is allowed: what root puts there is the
    /// server's.
    pub(super) fn give(&self, file: &File) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt as _, fchown};
            for file in [file, &self.lock] {
                // Whoever is not root makes files of its own, and that is right then.
                let _ = fchown(file, Some(self.metadata.uid()), Some(self.metadata.gid()));
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

/// Who may do what, as `chmod` takes it.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}

/// The process that wrote its id into the lock file.
fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

/// Refuses the database of a directory of another user's, if it is not that user's.
pub(super) fn refuse_foreign_database(dir: &Path) -> Result<bool, OpenError> {
    let metadata = fs::metadata(dir).map_err(|source| OpenError::io(dir, source))?;
    refuse_foreign(&database(dir), &metadata)?;
    Ok(is_foreign(&metadata))
}

fn refuse_foreign(path: &Path, dir: &Metadata) -> Result<(), OpenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(OpenError::io(path, source)),
        Ok(found) => refuse_foreign_file(path, &found, dir),
    }
}

#[cfg(unix)]
fn refuse_foreign_file(path: &Path, found: &Metadata, dir: &Metadata) -> Result<(), OpenError> {
    use std::os::unix::fs::MetadataExt as _;
    let foreign = |what| Err(OpenError::Foreign { path: path.into(), what });
    if !is_foreign(dir) {
        return Ok(());
    }
    // A file with one name is nowhere else: root's is what a restore left here.
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.nlink() == 1;
    if found.is_symlink() {
        foreign("a symbolic link")
    } else if !found.is_file() {
        foreign("no regular file")
    } else if found.uid() == dir.uid() || ours {
        Ok(())
    } else {
        foreign("another user's file")
    }
}

#[cfg(not(unix))]
fn refuse_foreign_file(_: &Path, _: &Metadata, _: &Metadata) -> Result<(), OpenError> {
    Ok(())
}

#[cfg(unix)]
fn is_foreign(dir: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(dir) != rustix::process::geteuid().as_raw()
}

#[cfg(not(unix))]
fn is_foreign(_: &Metadata) -> bool {
    false
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

/// [`private_file`], and a symbolic link is not followed.
pub(super) fn private_file_itself() -> OpenOptions {
    let mut options = private_file();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
    );
    options
}
