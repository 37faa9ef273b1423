//! Ports: an explicit one must be free, a default one gives way to the next free one, loudly.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use anyhow::{Result, bail};

/// How far to look for a free port.
const NEXT_PORTS: u16 = 100;

/// Binds an address. With `may_move` another port is taken when it is not free.
///
/// # Errors
/// When it is taken and must not move, or no port nearby is free.
pub fn bind(wanted: SocketAddr, may_move: bool, what: &str) -> Result<TcpListener> {
    let error = match TcpListener::bind(wanted) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    let holder = holder_of(wanted.port()).map(|holder| format!(" by {holder}")).unwrap_or_default();
    if error.kind() != std::io::ErrorKind::AddrInUse {
        bail!("listen on {wanted} for {what}: {error}");
    }
    if !may_move {
        bail!("listen on {wanted} for {what}: the port is taken{holder}");
    }
    for offset in 1..=NEXT_PORTS {
        let port = wanted.port().saturating_add(offset);
        if let Ok(listener) = TcpListener::bind((wanted.ip(), port)) {
            eprintln!("Port {} is taken{holder}: {what} listens on {port} instead.", wanted.port());
            return Ok(listener);
        }
    }
    bail!("listen for {what}: port {} and the {NEXT_PORTS} after it are taken", wanted.port())
}

/// The process that listens on a port, as far as we may see.
fn holder_of(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // `self` is a process that has another name.
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(table) = fs::read_dir(process.path().join("fd")) else { continue };
        let owns =
            |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str());
        if table.flatten().any(owns) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", name.trim()));
        }
    }
    None
}

/// The inode of the socket that listens on a port. Source: `proc(5)`; state 0A is LISTEN.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    let text = fs::read_to_string(table).ok()?;
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let own = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (own == port && *fields.get(3)? == "0A").then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder_or_gives_way() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let error = bind(address, false, "the test").expect_err("taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        let moved = bind(address, true, "the test").expect("the next one");
        assert_ne!(moved.local_addr().expect("an address").port(), address.port());
    }
}
