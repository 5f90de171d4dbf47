//! Streams through the domain: numbered datagrams to a group, and ordinary kernel sockets that have joined it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Domain, EDGES};
use crate::lab::{LabError, Look, Process, command, unreadable};

/// How long a stream may take from end to end.
const STREAM_MAX: Duration = Duration::from_secs(60);
/// The port that groups listen at.
pub(super) const PORT: u16 = 5000;

/// A flow that enters the domain at router 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Over IPv4.
    V4,
    /// Over IPv6.
    V6,
}

impl Stream {
    /// The group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Stream::V4 => "232.1.1.1",
            Stream::V6 => "ff3e::8000:1",
        }
    }

    /// The routers that it is for.
    #[must_use]
    pub fn receivers(self) -> &'static [usize] {
        match self {
            Stream::V4 => &[4, 5],
            Stream::V6 => &[3, 5],
        }
    }
}

/// Sockets on the hosts behind all edges that have joined both groups.
#[derive(Debug)]
pub struct Listeners {
    /// By router.
    processes: Vec<(usize, Process)>,
    sockets: usize,
}

/// What was heard: the numbers of datagrams in the order of their arrival, by router, stream and socket.
pub type Heard = BTreeMap<(usize, Stream, usize), Vec<u32>>;

impl Domain {
    /// Has so many sockets behind each edge join both groups, and waits until they have.
    ///
    /// # Errors
    /// [`LabError`] where a host can't join.
    pub fn listen(&self, sockets: usize) -> Result<Listeners, LabError> {
        self.listen_behind(&EDGES, sockets)
    }

    /// The same behind these edges alone. They leave when the listeners are dropped.
    ///
    /// # Errors
    /// [`LabError`] where a host can't join.
    pub fn listen_behind(&self, edges: &[usize], sockets: usize) -> Result<Listeners, LabError> {
        let script = "import socket, struct, select, sys\n\
            v4, v6, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])\n\
            index, names = socket.if_nametoindex('eth0'), {}\n\
            for n in range(count):\n\
            \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
            \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
            \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)\n\
            \x20   s.bind((v4, port))\n\
            \x20   s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack('4s4si', socket.inet_aton(v4), b'\\0' * 4, index))\n\
            \x20   names[s] = f'4 {n}'\n\
            \x20   s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
            \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
            \x20   s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)\n\
            \x20   s.bind((v6, port, 0, index))\n\
            \x20   s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, v6) + struct.pack('i', index))\n\
            \x20   names[s] = f'6 {n}'\n\
            print('joined', flush=True)\n\
            while True:\n\
            \x20   for s in select.select(list(names), [], [])[0]:\n\
            \x20       print(names[s], s.recv(2000).decode(), flush=True)\n";
        let mut processes = Vec::new();
        for router in edges.iter().copied() {
            let host = self.host(router);
            let mut python = host.command("python3");
            python.args(["-u", "-c", script, Stream::V4.group(), Stream::V6.group()]);
            python.args([PORT.to_string(), sockets.to_string()]);
            processes.push((router, host.spawn("listeners", &mut python)?));
        }
        for (_, process) in &processes {
            process.wait_until("listeners to join", STREAM_MAX, || {
                process.stdout().starts_with("joined").then_some(())
            })?;
        }
        Ok(Listeners { processes, sockets })
    }

    /// Sends datagrams numbered from `first` on, as many as `count`, at an even pace.
    ///
    /// # Errors
    /// [`LabError`] where the source can't send.
    pub fn send(&self, stream: Stream, first: u32, count: u32) -> Result<(), LabError> {
        let script = "import socket, sys, time\n\
            group, port, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])\n\
            v6 = ':' in group\n\
            s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)\n\
            index = socket.if_nametoindex('eth0')\n\
            if v6:\n\
            \x20   s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)\n\
            \x20   s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 16)\n\
            else:\n\
            \x20   s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 16)\n\
            for n in range(first, first + count):\n\
            \x20   s.sendto(str(n).encode().ljust(600), (group, port))\n\
            \x20   time.sleep(0.002)\n";
        let mut python = self.host(1).command("python3");
        python.args(["-c", script, stream.group()]);
        python.args([PORT.to_string(), first.to_string(), count.to_string()]);
        command::succeed(&mut python).map(drop)
    }
}

impl Listeners {
    /// What has been heard so far.
    ///
    /// # Errors
    /// [`LabError`] where a listener wrote something else.
    pub fn heard(&self) -> Result<Heard, LabError> {
        let mut heard = Heard::new();
        for (router, process) in &self.processes {
            let text = process.stdout();
            // The last line may be half there.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            for line in whole.lines().skip(1) {
                let words: Vec<_> = line.split_whitespace().collect();
                let numbers: Option<Vec<u32>> = words.iter().map(|word| word.parse().ok()).collect();
                let Some([family, socket, number]) = numbers.as_deref() else {
                    return Err(unreadable("what a listener heard", line));
                };
                let stream = if *family == 4 { Stream::V4 } else { Stream::V6 };
                heard.entry((*router, stream, *socket as usize)).or_default().push(*number);
            }
        }
        Ok(heard)
    }

    /// What should be heard when these numbers of both streams have arrived, each once and in order, and nothing else.
    #[must_use]
    pub fn expected(&self, streams: &[(Stream, u32)]) -> Heard {
        let mut expected = Heard::new();
        for (stream, count) in streams {
            for router in stream.receivers() {
                for socket in 0..self.sockets {
                    expected.insert((*router, *stream, socket), (0..*count).collect());
                }
            }
        }
        expected
    }

    /// Waits until as much has been heard as should be, and returns all that was.
    ///
    /// # Errors
    /// [`LabError::Deadline`] with how much was heard.
    pub fn wait_for(&self, expected: &Heard) -> Result<Heard, LabError> {
        let total = |heard: &Heard| heard.values().map(Vec::len).sum::<usize>();
        crate::lab::wait_until("the streams to arrive", STREAM_MAX, || match self.heard() {
            Ok(heard) if total(&heard) >= total(expected) => Look::Done(heard),
            Ok(heard) => {
                let counts: Vec<_> = heard.iter().map(|(who, numbers)| (*who, numbers.len())).collect();
                Look::NotYet(format!("{counts:?}"))
            }
            Err(error) => Look::NotYet(error.to_string()),
        })
    }
}
