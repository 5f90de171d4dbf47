//! A veth pair in a namespace of the calling thread's own, and a packet socket at its far end.

use std::fs;
use std::process::Command;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities};

/// For experiments on one's own network (IEEE 802, local experimental EtherType 1).
pub(crate) const ETHERTYPE: u16 = 0x88b5;

pub(crate) struct Wire {
    far: OwnedFd,
}

impl Wire {
    /// Moves the calling thread into a new network namespace and lays a veth pair in it.
    pub(crate) fn lay() -> Wire {
        let rights = capabilities(None).expect("capabilities can be read").effective;
        assert!(
            rights.contains(CapabilitySet::SYS_ADMIN),
            "this test makes a network namespace: run it as root"
        );
        // SAFETY: no memory and no file is shared less than before; only this thread's namespace changes.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a namespace can be made");
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("IPv6 can be turned off");
        ip("link add near type veth peer name far");
        ip("link set near up");
        ip("link set far up");
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::NONBLOCK, None)
            .expect("a packet socket can be made");
        let index = netdevice::name_to_index(&socket, "far").expect("the far end is there");
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ETHERTYPE.to_be(),
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of_val(&address) as u32;
        // SAFETY: the address is of the family's type and length.
        let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(status, 0, "the socket can be bound to the far end");
        Wire { far: socket }
    }

    /// The interface for the port.
    pub(crate) fn near(&self) -> &'static str {
        "near"
    }

    /// Its address.
    pub(crate) fn near_mac(&self) -> [u8; 6] {
        let output = Command::new("ip").args(["-br", "link", "show", "near"]).output().expect("ip runs");
        let text = String::from_utf8(output.stdout).unwrap();
        let mac = text.split_whitespace().nth(2).expect("the address is the third column");
        let mut bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
        std::array::from_fn(|_| bytes.next().unwrap())
    }

    /// Sends a frame from the far end.
    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(send(&self.far, frame, SendFlags::empty()).expect("the far end sends"), frame.len());
    }

    /// Frames that have arrived at the far end.
    pub(crate) fn receive(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 2048];
        while let Ok((len, _)) = recv(&self.far, &mut buffer[..], RecvFlags::empty()) {
            frames.push(buffer[..len].to_vec());
        }
        frames
    }

    /// Takes the far end down, and with it the near end's carrier; or up again.
    pub(crate) fn set_far(&self, up: bool) {
        ip(&format!("link set far {}", if up { "up" } else { "down" }));
    }

    /// Deletes the pair.
    pub(crate) fn cut(&self) {
        ip("link del near");
    }
}

/// Runs `ip` in the calling thread's namespace.
fn ip(arguments: &str) {
    let status =
        Command::new("ip").args(arguments.split(' ')).status().expect("ip runs (apt-get install iproute2)");
    assert!(status.success(), "ip {arguments}");
}
