//! What the simulation has to know of a service, and how that stands in the configuration.

use std::net::IpAddr;

use millrace_config::model::{FirstPacket, Forwarding, Overflow, Verify};

use crate::random::Random;
use crate::scenario::{BACKENDS, MEMORY_MIB, TCP_PORT, UDP_PORT};

/// A service, and what is behind it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) v4: IpAddr,
    pub(crate) v6: Option<IpAddr>,
    /// Whether it is in the configuration now, and whether it always was.
    pub(crate) present: bool,
    pub(crate) was_absent: bool,
    /// It has its IPv6 address not now.
    pub(crate) without_v6: bool,
    pub(crate) udp: bool,
    /// Its UDP port speaks QUIC.
    pub(crate) quic: bool,
    pub(crate) forwarding: Forwarding,
    /// Its instances see the appliance's address.
    pub(crate) translated: bool,
    pub(crate) health: Option<Health>,
    /// Which of its backends takes nothing new.
    pub(crate) drained: Option<usize>,
    pub(crate) wakes: bool,
    pub(crate) by_dns: bool,
    by_syn: bool,
    pub(crate) by_flow: bool,
    pub(crate) handling: FirstPacket,
    pub(crate) verify: Verify,
    pub(crate) hold_packets: u32,
    deadline_ms: u64,
    overflow: Overflow,
    when_ready: bool,
    idle_reap_seconds: u64,
    pub(crate) min: u64,
    max: u64,
}

/// How its backends or instances are checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health {
    pub(crate) probed: bool,
    /// Clients' handshakes are watched.
    pub(crate) watched: bool,
    pub(crate) interval_ms: u64,
    pub(crate) down_after: u64,
    /// Handshakes that fail, and for how long none has succeeded.
    failures: u64,
    window_ms: u64,
}

impl Health {
    fn draw(forwarding: Forwarding, random: &mut Random) -> Self {
        let (probed, watched) = random.one_of(&[(true, false), (true, true), (false, true)]);
        let two_way = forwarding == Forwarding::Nat;
        Self {
            probed: probed || !two_way,
            watched: watched && two_way,
            interval_ms: random.within(100..=200),
            down_after: random.within(1..=2),
            failures: random.within(1..=2),
            window_ms: random.within(100..=800),
        }
    }

    /// When one that nobody can reach is down at the latest: as many probes as it takes, the one that was under way when it
    /// went, one that hasn't begun, and two scans.
    pub(crate) fn down_ms_max(&self) -> u64 {
        (self.down_after + 2) * self.interval_ms + 200
    }

    fn toml(&self) -> String {
        let mut keys = Vec::new();
        if self.probed {
            keys.push(format!(
                "kind = \"tcp\", interval_ms = {}, down_after = {}, up_after = 1",
                self.interval_ms, self.down_after
            ));
        }
        if self.watched {
            keys.push(format!(
                "passive = {{ failures = {}, window_ms = {}, eject_ms = 1000 }}",
                self.failures, self.window_ms
            ));
        }
        format!("health = {{ {} }}\n", keys.join(", "))
    }
}

impl Facts {
    /// A function's.
    pub(crate) fn function(at: u64, random: &mut Random) -> Self {
        let min = random.one_of(&[0, 0, 0, 0, 1, 2]);
        let (by_dns, by_syn, by_flow) = random.one_of(&[
            (true, true, false),
            (true, true, false),
            (true, false, false),
            (false, true, false),
            (true, false, true),
            (false, false, true),
        ]);
        let handling = random.one_of(&[FirstPacket::Hold, FirstPacket::Forward, FirstPacket::Splice]);
        let verify = match random.below(4) {
            0 if by_syn || by_flow => Verify::SecondSyn,
            1 if by_syn && handling == FirstPacket::Splice => Verify::Cookie,
            _ => Verify::None,
        };
        let mut facts = Self {
            name: format!("s{at}"),
            v6: random.percent(70).then(|| format!("2001:db8:f::{}", 10 + at).parse().unwrap()),
            wakes: true,
            by_dns,
            by_syn,
            by_flow,
            handling,
            verify,
            udp: random.percent(40),
            min,
            max: min.max(1) + random.below(2),
            health: random.percent(30).then(|| Health::draw(Forwarding::Nat, random)),
            ..Self::bare(at, random)
        };
        facts.quic = facts.udp && random.percent(30);
        facts.vary(random);
        facts
    }

    /// One of backends alone.
    pub(crate) fn fixed(at: u64, random: &mut Random) -> Self {
        let forwarding = random.one_of(&[
            Forwarding::Nat,
            Forwarding::Nat,
            Forwarding::L2,
            Forwarding::Ipip,
            Forwarding::Gue,
        ]);
        let udp = random.percent(70);
        let bare = Self::bare(at, random);
        Self {
            name: "web".to_owned(),
            udp,
            quic: udp && random.percent(30),
            translated: bare.translated && forwarding == Forwarding::Nat,
            forwarding,
            health: random.percent(50).then(|| Health::draw(forwarding, random)),
            ..bare
        }
    }

    fn bare(at: u64, random: &mut Random) -> Self {
        Self {
            name: String::new(),
            v4: format!("203.0.113.{}", 10 + at).parse().unwrap(),
            v6: Some(format!("2001:db8:f::{}", 10 + at).parse().unwrap()),
            present: true,
            was_absent: false,
            without_v6: false,
            udp: false,
            quic: false,
            forwarding: Forwarding::Nat,
            translated: random.percent(50),
            health: None,
            drained: None,
            wakes: false,
            by_dns: false,
            by_syn: false,
            by_flow: false,
            handling: FirstPacket::Hold,
            verify: Verify::None,
            hold_packets: 0,
            deadline_ms: 0,
            overflow: Overflow::Drop,
            when_ready: false,
            idle_reap_seconds: 1,
            min: 0,
            max: 0,
        }
    }

    /// Takes it out of the configuration, or back in.
    pub(crate) fn come_or_go(&mut self) {
        self.present = !self.present;
        self.was_absent = true;
    }

    /// Takes one of its addresses out, or back in.
    pub(crate) fn lose_or_find(&mut self) {
        self.without_v6 = !self.without_v6;
        self.was_absent = true;
    }

    /// Draws what a reload may change.
    pub(crate) fn vary(&mut self, random: &mut Random) {
        if self.has_backends() {
            self.drained = random.one_of(&[None, Some(0), Some(1)]);
        }
        if !self.wakes {
            return;
        }
        self.overflow = match random.below(4) {
            0 => Overflow::Upstream,
            1 => Overflow::Fallback,
            2 if !self.udp => Overflow::Rst,
            _ => Overflow::Drop,
        };
        // Who has to repeat a SYN does so after most of a second.
        self.deadline_ms = if self.verify == Verify::SecondSyn { 2500 } else { random.within(200..=2500) };
        self.when_ready = self.by_dns && random.percent(40);
        self.hold_packets = random.within(2..=12) as u32;
        self.idle_reap_seconds = random.within(1..=4);
    }

    pub(crate) fn has_backends(&self) -> bool {
        !self.wakes || self.overflow == Overflow::Fallback
    }

    pub(crate) fn dns_name(&self) -> String {
        format!("{}.fn.example.", self.name)
    }

    /// Its address of a family that it has.
    pub(crate) fn address(&self, v4: bool) -> IpAddr {
        if v4 { self.v4 } else { self.v6.expect("only wished for where it is") }
    }

    pub(crate) fn is_at(&self, addr: IpAddr) -> bool {
        self.v4 == addr || self.v6 == Some(addr)
    }

    /// Whether the configuration has it at an address now.
    pub(crate) fn is_now_at(&self, addr: IpAddr) -> bool {
        self.present && self.is_at(addr) && (addr.is_ipv4() || !self.without_v6)
    }

    /// Its part of the configuration, and its function's.
    pub(crate) fn toml(&self) -> String {
        let addresses: Vec<String> = [Some(self.v4), self.v6.filter(|_| !self.without_v6)]
            .iter()
            .flatten()
            .map(|addr| format!("\"{addr}\""))
            .collect();
        let udp = if self.udp { format!(", \"udp/{UDP_PORT}\"") } else { String::new() };
        let mut text = String::new();
        if self.wakes {
            text += &format!(
                "[[function]]\nname = \"f{0}\"\ncomponent = \"f{0}.wasm\"\nmemory_mib = {MEMORY_MIB}\n\
                 deadline_ms = 300\ninstances = {{ min = {1}, max = {2} }}\n",
                self.name, self.min, self.max
            );
        }
        text += &format!(
            "[[service]]\nname = \"{}\"\nnames = [\"{}\"]\naddress = [{}]\nports = [\"tcp/{TCP_PORT}\"{udp}]\n\
             forwarding = \"{}\"\nsource = \"{}\"\n",
            self.name,
            self.dns_name(),
            addresses.join(", "),
            self.forwarding,
            if self.translated { "appliance" } else { "keep" },
        );
        if self.wakes {
            text += &self.waking();
        }
        if self.quic {
            text += "quic = { server_id_bytes = 6, nonce_bytes = 5 }\n";
        }
        text += &self.health.map_or_else(String::new, |health| health.toml());
        if self.has_backends() {
            text += &self.backends();
        }
        text
    }

    fn waking(&self) -> String {
        let triggers = [(self.by_dns, "\"dns\""), (self.by_syn, "\"syn\""), (self.by_flow, "\"flow\"")];
        let triggers: Vec<_> = triggers.iter().filter(|(fires, _)| *fires).map(|(_, name)| *name).collect();
        format!(
            "function = \"f{}\"\ntrigger = [{}]\nfirst_packet = \"{}\"\ndns_answer = \"{}\"\n\
             verify_before_wake = \"{}\"\nhold = {{ packets = {}, deadline_ms = {}, overflow = \"{}\" }}\n\
             idle_reap_seconds = {}\n",
            self.name,
            triggers.join(", "),
            self.handling,
            if self.when_ready { "when-ready" } else { "immediate" },
            self.verify,
            self.hold_packets,
            self.deadline_ms,
            self.overflow,
            self.idle_reap_seconds
        )
    }

    /// Each host is two of them, one of either family.
    fn backends(&self) -> String {
        let one = |at: usize, v4: bool| {
            let addr = if v4 { BACKENDS[at].0 } else { BACKENDS[at].1 };
            let id: String = backend_id(at, v4).iter().map(|byte| format!("{byte:02x}")).collect();
            let id = if self.quic { format!(", server_id = \"0x{id}\"") } else { String::new() };
            format!("{{ address = \"{addr}\", drain = {}{id} }}", self.drained == Some(at))
        };
        let all: Vec<String> = (0..BACKENDS.len()).flat_map(|at| [one(at, true), one(at, false)]).collect();
        format!("backends = [{}]\n", all.join(", "))
    }
}

/// What a backend's QUIC connection ids say.
pub(crate) fn backend_id(at: usize, v4: bool) -> [u8; 6] {
    [0xb0, 0, 0, 0, u8::from(v4), at as u8]
}
