//! What the server's process uses, where it runs on this machine (Linux: `/proc`).

use std::time::Duration;

/// The server's process, if it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pid: Option<u32>,
}

impl Host {
    pub(super) fn find(named: Option<u32>, address: &str) -> Self {
        Self { pid: named.or_else(|| listener(address)) }
    }

    /// Processor time that it has used.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid?)).ok()?;
        // The command's name may hold anything: the fields follow its closing parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        // USER_HZ is 100 on every Linux that there is.
        Some(Duration::from_millis(ticks * 10))
    }

    /// Bytes that it holds in memory.
    pub(super) fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

/// The process that listens on this port of the machine.
fn listener(address: &str) -> Option<u32> {
    let (host, port) = address.rsplit_once(':')?;
    if !matches!(host, "127.0.0.1" | "localhost" | "[::1]") {
        return None;
    }
    let port = format!(":{:04X}", port.parse::<u16>().ok()?);
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        std::fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A is the state LISTEN.
            (fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A")
                .then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
    })?;
    let socket = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|process| {
        let pid = process.file_name().to_str()?.parse::<u32>().ok()?;
        let holds = std::fs::read_dir(process.path().join("fd")).ok()?.filter_map(Result::ok).any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket.as_str())
        });
        holds.then_some(pid)
    })
}
