//! Asks the kernel whose socket is at the other end of a loopback connection.
//!
//! Source: `sock_diag(7)`: an exact lookup of one socket by its addresses, 3 µs whatever the number of connections.
//! Trap: once both ends have closed, the kernel answers uid 0 and inode 0 without an error; so only an established socket
//! with an inode counts.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
/// Offsets into the answer: `nlmsghdr`, then `inet_diag_msg`.
const STATE_AT: usize = HEADER_BYTES + 1;
const UID_AT: usize = HEADER_BYTES + 4 + 48 + 12;
const INODE_AT: usize = UID_AT + 4;

/// A socket of another process on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    /// The uid that made it.
    pub(crate) uid: u32,
    /// Its inode, as the links in `/proc/<pid>/fd` show it.
    pub(crate) inode: u32,
}

/// The established socket whose own address is `own` and whose peer is `peer`; `None` when there is none.
pub(crate) fn find(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request(own, peer), SendFlags::empty())?;
    let mut answer = [0u8; 1024];
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    Ok(parse(answer.get(..len).unwrap_or(&[])))
}

fn request(own: SocketAddr, peer: SocketAddr) -> [u8; REQUEST_BYTES] {
    let mut message = [0u8; REQUEST_BYTES];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(REQUEST_BYTES as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(16, &[u8::try_from(family.as_raw()).unwrap_or(0), IPPROTO_TCP, 0, 0]);
    put(20, &(1u32 << TCP_ESTABLISHED).to_ne_bytes());
    put(24, &own.port().to_be_bytes());
    put(26, &peer.port().to_be_bytes());
    put_address(&mut put, 28, own.ip());
    put_address(&mut put, 44, peer.ip());
    // Interface 0: any. Cookie of all ones: none.
    put(64, &[0xff; 8]);
    message
}

fn put_address(put: &mut impl FnMut(usize, &[u8]), at: usize, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put(at, &address.octets()),
        IpAddr::V6(address) => put(at, &address.octets()),
    }
}

fn parse(answer: &[u8]) -> Option<Socket> {
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let state = *answer.get(STATE_AT)?;
    let (uid, inode) = (number(UID_AT)?, number(INODE_AT)?);
    (kind == SOCK_DIAG_BY_FAMILY && state == TCP_ESTABLISHED && inode != 0).then_some(Socket { uid, inode })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_kernel_names_the_owner_of_a_live_socket_and_of_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (server, peer) = listener.accept().expect("accepted");
        let local = server.local_addr().expect("an address");
        let found = find(peer, local).expect("an answer").expect("a socket");
        assert_eq!(found.uid, rustix::process::getuid().as_raw());
        let link = rustix::fs::fstat(client.as_fd()).expect("a socket's inode").st_ino;
        assert_eq!(u64::from(found.inode), link);
        drop(client);
        drop(server);
        assert_eq!(find(peer, local).ok().flatten(), None, "a closed socket has no owner");
    }

    #[test]
    fn an_answer_cut_short_is_no_answer() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[20; 40]), None);
    }
}
