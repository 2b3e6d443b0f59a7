//! The session's handle, where no human chose one.

use conclave_core::name::{Handle, sanitize};
use conclave_store::state::{HandleLease, State};

use crate::{Error, log};

/// The handle of a session in the working directory: the same after a restart, and another one for each session at once.
/// It is the session's while the lease is there. Without a state that can be used, it is the directory's name, and the
/// link takes another one if a session has it: an agent without a memory is better than none.
pub(super) fn claim(state: Option<&State>) -> Result<(Handle, Option<HandleLease>), Error> {
    let directory = std::env::current_dir().unwrap_or_default();
    let base = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match state.map(|state| state.claim_handle(&base, &directory)) {
        Some(Ok(lease)) => return Ok((lease.handle().clone(), Some(lease))),
        Some(Err(error)) => {
            log(&format!("this session's handle is not remembered: {error}; {}", error.advice()));
        }
        None => {}
    }
    let handle = Handle::new(&sanitize(&base, "agent"));
    Ok((handle.map_err(|error| Error::Io(std::io::Error::other(error)))?, None))
}
