//! The thread that does nothing but read the socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::error::NodeError;
use crate::socket::wait;
use crate::stop::Stop;

/// A datagram, and where it came from.
pub(crate) type Datagram = (SocketAddr, Vec<u8>);

/// The thread, and what it has read.
pub(crate) struct Intake {
    pub(crate) datagrams: Receiver<Datagram>,
    overrun: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Intake {
    /// Begins to read, until one of the two says stop; then the queue ends.
    pub(crate) fn start(socket: Arc<UdpSocket>, stop: [Stop; 2]) -> Result<Self, NodeError> {
        let (queue, datagrams) = sync_channel(QUEUE_MAX);
        let overrun = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&overrun);
        let read = move || {
            if let Err(error) = read(&socket, &stop, &queue, &counter) {
                tracing::error!(%error, "the socket can't be read");
            }
        };
        let thread = std::thread::Builder::new().name("hub-intake".to_owned()).spawn(read);
        Ok(Self { datagrams, overrun, thread: thread.map_err(NodeError::Thread)? })
    }

    /// Datagrams that found the queue full.
    pub(crate) fn overrun(&self) -> u64 {
        self.overrun.load(Relaxed)
    }

    /// Waits for the thread, which was told to stop.
    pub(crate) fn join(self) {
        drop(self.datagrams);
        // It doesn't panic; if it did, that was printed.
        let _ = self.thread.join();
    }
}

fn read(
    socket: &UdpSocket,
    stop: &[Stop; 2],
    queue: &SyncSender<Datagram>,
    overrun: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = vec![0; DATAGRAM_MAX];
    while !wait(socket, stop, None)? {
        for _ in 0..BATCH {
            match socket.recv_from(&mut bytes) {
                Ok((len, from)) => match queue.try_send((from, bytes[..len].to_vec())) {
                    Ok(()) => {}
                    // It counts as lost on the way, and is sent again.
                    Err(TrySendError::Full(_)) => drop(overrun.fetch_add(1, Relaxed)),
                    Err(TrySendError::Disconnected(_)) => return Ok(()),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What ICMP said of an earlier answer of ours; links that are down for a while.
                Err(error) => {
                    tracing::debug!(%error, "a read of the socket failed");
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A second and a half of full packets at 100 Mb/s, 20 MB.
const QUEUE_MAX: usize = 14_000;
/// Datagrams between two looks at the switch.
const BATCH: usize = 256;
/// What UDP can carry.
const DATAGRAM_MAX: usize = 1 << 16;
