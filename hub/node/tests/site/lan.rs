//! The hub and its nodes: a namespace each, on one bridge.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use millrace_hub::norm::NodeId;
use millrace_hub_node::{Interface, News, Sending, Sent, Settings, Stop, Summary, Told, receive, send};
use millrace_hub_store::{SigningKey, Trust};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Against hanging: nothing here takes seconds on an idle machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 1, 1, 9)), 6003);

/// The namespaces; they are removed in the end.
pub(crate) struct Lan {
    prefix: String,
    nodes: u32,
    pub(crate) folder: TempDir,
}

impl Lan {
    /// A hub and so many nodes, numbered from 2 on.
    pub(crate) fn new(nodes: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("mrn{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lan = Self { prefix, nodes, folder: tempfile::tempdir().unwrap() };
        let hub = lan.namespace(1);
        ip(&format!("netns add {hub}"));
        // Without snooping it floods, as the plainest switch does.
        ip(&format!("-n {hub} link add br0 type bridge mcast_snooping 0"));
        ip(&format!("-n {hub} address add 10.9.0.1/24 dev br0"));
        ip(&format!("-n {hub} link set br0 up"));
        for node in lan.nodes() {
            let name = lan.namespace(node);
            ip(&format!("netns add {name}"));
            ip(&format!("-n {hub} link add p{node} type veth peer name eth0 netns {name}"));
            ip(&format!("-n {hub} link set p{node} master br0 up"));
            ip(&format!("-n {name} address add 10.9.0.{node}/24 dev eth0"));
            ip(&format!("-n {name} link set eth0 up"));
        }
        lan
    }

    fn nodes(&self) -> std::ops::RangeInclusive<u32> {
        2..=self.nodes + 1
    }

    pub(crate) fn namespace(&self, host: u32) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// So many of a thousand datagrams to a node are lost from now on.
    pub(crate) fn lose(&self, node: u32, per_mille: u32) {
        // A line each: on one, nft would take the braces for a part of the rule.
        let lines = [
            "flush ruleset",
            "table inet l {",
            "chain i {",
            "type filter hook input priority 0;",
            &format!("meta l4proto udp numgen random mod 1000 < {per_mille} counter drop"),
            "}",
            "}",
            "",
        ];
        let rules = lines.join("\n");
        let file = self.folder.path().join("rules");
        std::fs::write(&file, rules).unwrap();
        ip(&format!("netns exec {} nft -f {}", self.namespace(node), file.display()));
    }

    /// Where a node puts what it receives.
    pub(crate) fn at(&self, node: u32, name: &str) -> PathBuf {
        self.folder.path().join(format!("node{node}")).join(name)
    }

    /// A file to be sent.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Begins to receive; back once the node listens.
    pub(crate) fn receive(&self, node: u32, trust: Trust, count: Option<u64>) -> Listening {
        let (stop, (tell, news)) = (Stop::new().unwrap(), channel());
        let (namespace, folder) = (self.namespace(node), self.at(node, ""));
        let switch = stop.clone();
        let thread = spawn(move || {
            enter(&namespace);
            let settings = Settings {
                group: GROUP,
                interface: Interface::named("eth0").unwrap(),
                hub: "10.9.0.1".parse().unwrap(),
                sender: NodeId(1),
                node: NodeId(node),
                folder,
                trust,
                count,
            };
            // Whoever doesn't listen any more has seen enough.
            receive(settings, &switch, |what| drop(tell.send(what))).unwrap()
        });
        let listening = Listening { stop, news, thread };
        listening.wait(|news| matches!(news, News::Listening));
        listening
    }

    /// What sends files to all nodes.
    pub(crate) fn sending(&self, files: &[&Path], bits_per_second: u64) -> Outgoing {
        Outgoing {
            namespace: self.namespace(1),
            nodes: self.nodes().map(|node| (NodeId(node), IpAddr::from([10, 9, 0, node as u8]))).collect(),
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            bits_per_second,
            key: None,
            version: 1,
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in std::iter::once(1).chain(self.nodes()) {
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(host)]).status();
        }
    }
}

/// A sender that hasn't begun.
pub(crate) struct Outgoing {
    namespace: String,
    nodes: Vec<(NodeId, IpAddr)>,
    files: Vec<PathBuf>,
    bits_per_second: u64,
    pub(crate) key: Option<SigningKey>,
    pub(crate) version: u64,
}

impl Outgoing {
    /// Sends, to the end or until `enough` says so.
    pub(crate) fn run(self, mut enough: impl FnMut(&Told<'_>) -> bool + Send + 'static) -> Sent {
        let sender = spawn(move || {
            enter(&self.namespace);
            let settings = Sending {
                group: GROUP,
                interface: Interface::named("br0").unwrap(),
                address: "10.9.0.1".parse().unwrap(),
                hops: 1,
                sender: NodeId(1),
                nodes: self.nodes,
                segment: 1400,
                bits_per_second: self.bits_per_second,
                key: self.key,
                version: self.version,
                files: self.files,
            };
            let stop = Stop::new().unwrap();
            send(&settings, &stop, |told| {
                if enough(&told) {
                    stop.stop();
                }
            })
            .unwrap()
        });
        sender.join().unwrap()
    }
}

/// A node that receives.
pub(crate) struct Listening {
    stop: Stop,
    news: Receiver<News>,
    thread: JoinHandle<Summary>,
}

impl Listening {
    /// The first news of this kind that comes.
    pub(crate) fn wait(&self, wanted: impl Fn(&News) -> bool) -> News {
        loop {
            let news = self.news.recv_timeout(DEADLINE).expect("such news comes");
            if wanted(&news) {
                return news;
            }
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn end(self) -> (Summary, Vec<News>) {
        let summary = self.thread.join().unwrap();
        (summary, self.news.try_iter().collect())
    }

    /// Ends it now.
    pub(crate) fn stop(self) -> (Summary, Vec<News>) {
        self.stop.stop();
        self.end()
    }
}

pub(crate) fn enter(namespace: &str) {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
