//! Unix sockets for one user's programs: where they stand, who may use them, and lines of bounded length on them.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use smol::Async;
use smol::io::{AsyncRead, AsyncReadExt as _};

/// The directory for a new socket: `$XDG_RUNTIME_DIR/conclave`, or `run` in the configuration's directory.
pub fn directory(config: &Path) -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    given.map_or_else(|| fallback(config), |dir| dir.join("conclave"))
}

/// The directories in which another program's socket may stand. Some clients start their servers without
/// `XDG_RUNTIME_DIR`, Codex for instance, and their hooks with it.
pub fn directories(config: &Path) -> Vec<PathBuf> {
    let mut all = vec![directory(config), fallback(config)];
    all.dedup();
    all
}

fn fallback(config: &Path) -> PathBuf {
    config.join("run")
}

/// Makes the directory, for this user alone.
///
/// # Errors
/// It cannot be made, or others may use it.
pub fn make_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let known = fs::symlink_metadata(dir)?;
    let own =
        known.is_dir() && known.uid() == rustix::process::geteuid().as_raw() && known.mode() & 0o077 == 0;
    if own {
        return Ok(());
    }
    let what = format!("{} must be a directory of yours with mode 0700", dir.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

/// A socket that is listened on; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    listener: Async<UnixListener>,
    path: PathBuf,
}

impl Listener {
    /// Listens on `name` in a directory that [`make_directory`] made. A file that an earlier process left there is replaced.
    ///
    /// # Errors
    /// What the system says, for instance that the path is too long.
    pub fn bind(dir: &Path, name: OsString) -> io::Result<Self> {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directory keeps others out while the socket does not have its mode yet.
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener: Async::new(listener)?, path })
    }

    /// The next connection of this user.
    ///
    /// # Errors
    /// What the system says.
    pub async fn accept(&self) -> io::Result<Async<std::os::unix::net::UnixStream>> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if is_own(&stream) {
                return Ok(stream);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the other side runs as the same user, or as root. Elsewhere than on Linux the modes alone keep others out.
#[cfg(target_os = "linux")]
fn is_own(stream: &Async<std::os::unix::net::UnixStream>) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid() || peer.uid.is_root())
}

#[cfg(not(target_os = "linux"))]
fn is_own(_: &Async<std::os::unix::net::UnixStream>) -> bool {
    true
}

/// Reads a line of at most `most` bytes, without its end. `None` if the connection ends first.
///
/// # Errors
/// The line is longer, or no UTF-8; or what the system says.
pub async fn read_line(stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).await? == 1 {
        if byte[0] == b'\n' {
            return String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
        }
        if line.len() == most {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(byte[0]);
    }
    Ok(None)
}
