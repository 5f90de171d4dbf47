//! UDP sockets of a group, and waiting for them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{netdevice, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::error::NodeError;
use crate::stop::Stop;

/// A network interface, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface(u32);

impl Interface {
    /// The interface with this name.
    ///
    /// # Errors
    /// [`NodeError::Interface`].
    pub fn named(name: &str) -> Result<Self, NodeError> {
        let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(NodeError::Socket)?;
        netdevice::name_to_index(any, name).map(Self).map_err(|_| NodeError::Interface(name.to_owned()))
    }
}

/// A socket that hears a group on one interface, and what is sent to the host's own addresses at the group's port.
pub(crate) fn listening(group: SocketAddr, interface: Interface) -> Result<UdpSocket, NodeError> {
    if !group.ip().is_multicast() {
        return Err(NodeError::NotAGroup(group.ip()));
    }
    listen(group, interface).map_err(NodeError::Socket)
}

fn listen(group: SocketAddr, interface: Interface) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, None)?;
    // Another group's receiver may have the port, too.
    socket.set_reuse_address(true)?;
    match group.ip() {
        IpAddr::V4(address) => {
            // Not the groups that other processes have joined.
            socket.set_multicast_all_v4(false)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, group.port())).into())?;
            socket.join_multicast_v4_n(&address, &InterfaceIndexOrAddress::Index(interface.0))?;
        }
        IpAddr::V6(address) => {
            socket.set_multicast_all_v6(false)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, group.port())).into())?;
            socket.join_multicast_v6(&address, interface.0)?;
        }
    }
    let socket = UdpSocket::from(socket);
    enlarge(&socket);
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that sends to a group through one interface, from this address.
pub(crate) fn sending(
    address: IpAddr,
    group: SocketAddr,
    interface: Interface,
    hops: u8,
) -> Result<UdpSocket, NodeError> {
    if !group.ip().is_multicast() {
        return Err(NodeError::NotAGroup(group.ip()));
    }
    if group.is_ipv4() != address.is_ipv4() {
        return Err(NodeError::Family);
    }
    let open = || {
        let socket = UdpSocket::bind((address, 0))?;
        if group.is_ipv4() {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, interface.0)?;
            socket.set_multicast_ttl_v4(hops.into())?;
        } else {
            sockopt::set_ipv6_multicast_if(&socket, interface.0)?;
            sockopt::set_ipv6_multicast_hops(&socket, hops.into())?;
        }
        enlarge(&socket);
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().map_err(NodeError::Socket)
}

/// Room for what comes while nobody reads. Without the right to go beyond the system's limit, as much as that allows.
fn enlarge(socket: &UdpSocket) {
    let forced = sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_BYTES);
    if let Err(error) = forced.or_else(|_| sockopt::set_socket_recv_buffer_size(socket, BUFFER_BYTES)) {
        tracing::debug!(%error, "the socket keeps its buffer");
    }
}

/// Waits until the socket can be read, for so long at most. Whether it was told to stop.
pub(crate) fn wait(socket: &UdpSocket, stop: &[Stop], at_most: Option<Duration>) -> io::Result<bool> {
    let mut all: Vec<_> = stop.iter().map(|stop| PollFd::new(stop, PollFlags::IN)).collect();
    all.push(PollFd::new(socket, PollFlags::IN));
    let at_most = at_most.map(|time| Timespec {
        tv_sec: time.as_secs().min(i32::MAX as u64) as i64,
        tv_nsec: time.subsec_nanos().into(),
    });
    match poll(&mut all, at_most.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {
            Ok(all[..stop.len()].iter().any(|one| !one.revents().is_empty()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A third of a second at 100 Mb/s.
const BUFFER_BYTES: usize = 4 << 20;
