//! The sockets behind `net_af_xdp` ports, which DPDK 22.11 leaves open when it removes one: the socket that the port's memory was
//! registered with keeps its queue, and whoever wants the interface next hears that it is busy.
//!
//! What a port has opened is what there is more after its start than before; ports are started one after the other. After its
//! removal those of them are closed that still are what they were.

use std::fs;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, sockopt};

const XDP: AddressFamily = AddressFamily::from_raw(libc::AF_XDP as u16);

/// A socket of this process: its descriptor, and what the kernel calls it, which no other socket will ever be called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    fd: RawFd,
    name: PathBuf,
}

impl Socket {
    fn at(fd: RawFd) -> Option<Socket> {
        let name = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        Some(Socket { fd, name })
    }

    fn is_xdp(&self) -> bool {
        // SAFETY: borrowed for this call. One that has been closed meanwhile is refused by the kernel.
        let fd = unsafe { BorrowedFd::borrow_raw(self.fd) };
        self.name.as_os_str().as_encoded_bytes().starts_with(b"socket:")
            && sockopt::socket_domain(fd) == Ok(XDP)
    }
}

/// Sockets of the kind `AF_XDP`.
#[derive(Debug, Default)]
pub(crate) struct XdpSockets(Vec<Socket>);

impl XdpSockets {
    /// All that this process has open.
    pub(crate) fn open() -> XdpSockets {
        let fds = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        let numbers = fds.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        XdpSockets(numbers.filter_map(Socket::at).filter(Socket::is_xdp).collect())
    }

    /// Those that weren't among `before`.
    pub(crate) fn since(self, before: &XdpSockets) -> XdpSockets {
        XdpSockets(self.0.into_iter().filter(|socket| !before.0.contains(socket)).collect())
    }

    /// Closes those that are open still. Whoever opened them must have forgotten them.
    pub(crate) fn close(self) {
        for socket in self.0 {
            if Socket::at(socket.fd).as_ref() == Some(&socket) {
                // SAFETY: it is the socket that it was, and nobody's any more.
                drop(unsafe { OwnedFd::from_raw_fd(socket.fd) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::net::{SocketFlags, SocketType, socket_with};

    use super::*;

    fn socket(family: AddressFamily, kind: SocketType) -> OwnedFd {
        socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn what_was_opened_since_is_closed_and_nothing_else() {
        let other = socket(AddressFamily::UNIX, SocketType::DGRAM);
        let earlier = socket(XDP, SocketType::RAW);
        let before = XdpSockets::open();
        let [forgotten, closed] = [(); 2].map(|()| socket(XDP, SocketType::RAW));
        let own = XdpSockets::open().since(&before);
        assert_eq!(own.0.len(), 2);
        // Its number is another's by the time.
        let number = closed.as_raw_fd();
        drop(closed);
        let reused = socket(AddressFamily::UNIX, SocketType::DGRAM);
        assert_eq!(reused.as_raw_fd(), number);
        let forgotten = std::os::fd::IntoRawFd::into_raw_fd(forgotten);
        own.close();
        assert!(Socket::at(forgotten).is_none());
        assert!([&other, &earlier, &reused].iter().all(|fd| Socket::at(fd.as_raw_fd()).is_some()));
        assert_eq!(XdpSockets::open().0.len(), before.0.len());
    }
}
