//! Links that go down and come up, told as soon as that can be seen.
//!
//! The kernel tells of its interfaces by itself; other devices are asked. Neither is a worker's affair, for it takes system
//! calls.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_fastpath::driver::{PORTS_MAX, PortId};
use rustix::fd::OwnedFd;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::port::Port;
use crate::ports::Ports;

/// Devices without an interface of the kernel are asked so often.
const ASK: Duration = Duration::from_millis(1);
/// So often is looked where the kernel tells, for it may have told more than was read.
const LOOK: Duration = Duration::from_millis(100);

/// A thread that watches links. Dropping it ends the thread.
#[derive(Debug)]
pub struct LinkWatch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LinkWatch {
    /// Watches the links of these ports, those that are opened later included. `tell` hears of each that goes down or comes
    /// up; first of those that are down. The thread inherits the CPUs of the caller.
    ///
    /// # Errors
    /// The system has no room for a socket or a thread.
    pub fn start(
        ports: Ports,
        mut tell: impl FnMut(PortId, &Port, bool) + Send + 'static,
    ) -> io::Result<LinkWatch> {
        // In the network namespace of the caller, where the ports' interfaces are.
        let kernel = subscribe()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new().name("links".to_owned()).spawn(move || {
            let mut up = [true; PORTS_MAX];
            while !stopping.load(Ordering::Relaxed) {
                let mut wait = LOOK;
                for (id, known) in (0..).map(PortId).zip(&mut up) {
                    let Some(port) = ports.get(id) else { continue };
                    if !port.is_kernel_backed() {
                        wait = ASK;
                    }
                    let now = port.link().up;
                    if now != *known {
                        *known = now;
                        tell(id, &port, now);
                    }
                }
                heed(&kernel, wait);
            }
        })?;
        Ok(LinkWatch { stop, thread: Some(thread) })
    }
}

impl Drop for LinkWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that watches links had panicked");
        }
    }
}

/// A socket on which the kernel tells of changes of its interfaces.
fn subscribe() -> io::Result<OwnedFd> {
    // Protocol 0 is that of routes and links (NETLINK_ROUTE).
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, libc::RTMGRP_LINK as u32))?;
    Ok(socket)
}

/// Waits until the kernel tells of something, or the time is over. What it tells is no matter: all links are looked at then.
fn heed(kernel: &OwnedFd, wait: Duration) {
    let mut message = [0_u8; 1];
    // Without a limit it could wait for ever, so rest instead.
    match set_socket_timeout(kernel, Timeout::Recv, Some(wait)) {
        Ok(()) => _ = recv(kernel, &mut message, RecvFlags::TRUNC),
        Err(_) => thread::sleep(wait),
    }
}
