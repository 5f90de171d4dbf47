//! What the kernel knows of the interfaces and rights that kernel-backed ports stand on.

use std::io;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
use rustix::thread::{CapabilitySet, capabilities};

/// The kernel interface behind a port, remembered by index: a new one of the same name is another interface.
#[derive(Debug)]
pub(crate) struct Interface {
    name: String,
    index: u32,
    /// Any socket will do to ask with. Its network namespace is that of the thread that opened the port.
    socket: OwnedFd,
}

impl Interface {
    /// Finds an interface in the calling thread's network namespace.
    pub(crate) fn find(name: &str) -> io::Result<Interface> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let index = netdevice::name_to_index(&socket, name)?;
        Ok(Interface { name: name.to_owned(), index, socket })
    }

    /// Whether it is gone.
    pub(crate) fn is_removed(&self) -> bool {
        netdevice::index_to_name(&self.socket, self.index).is_err()
    }

    /// Whether it is up and has a carrier; false when it is gone.
    pub(crate) fn is_running(&self) -> bool {
        const NEEDED: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        // SAFETY: all bytes zero is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero; a name that long was never found.
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name[..room].iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: the request is an `ifreq` with a name that ends in zero, as SIOCGIFFLAGS wants.
        let answer = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
        // SAFETY: all bits of the union are initialised, and any are a valid short.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        answer == 0 && flags & NEEDED == NEEDED && !self.is_removed()
    }
}

/// Which of `needed` the calling thread lacks, as `CAP_...` names.
pub(crate) fn missing_capabilities(needed: CapabilitySet) -> Vec<&'static str> {
    let held = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
    ]
    .into_iter()
    .filter(|(capability, _)| needed.contains(*capability) && !held.contains(*capability))
    .map(|(_, name)| name)
    .collect()
}
