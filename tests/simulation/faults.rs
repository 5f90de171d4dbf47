//! What goes wrong while it may, and how it ends.

use crate::network::Weather;
use crate::random::Random;
use crate::world::{Happening, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The orchestrator dies, or comes back.
    Orchestrator(bool),
    /// The appliance's stream to it is cut, or can be had again.
    Link(bool),
    /// Nothing gets through that stream for a while.
    Stall,
    /// A serving node or backend dies, or is back.
    Station(usize, bool),
    /// Its cable is out, or in again.
    Cable(usize, bool),
    /// Nobody listens at its TCP ports, or somebody does again.
    Refuse(usize, bool),
    /// Its stream to the orchestrator is silent, or speaks again.
    Silence(usize, bool),
    /// An instance of a node is gone without a word to the network.
    Vanish(usize),
    /// The control loop doesn't turn for seconds.
    Pause,
    /// A worker doesn't poll for a while.
    Worker(usize),
    /// A port takes so many frames and then none, or all again.
    Port(u16, bool),
    /// The weather on the wires.
    Weather(Weather),
    /// A burst of frames that nobody should send.
    Flood(u64),
    /// The configuration is another one.
    Reload,
    /// The appliance loses its power and starts cold.
    Restart,
}

impl Fault {
    /// Whether no connection may end by it.
    fn is_gentle(&self) -> bool {
        use Fault::{Flood, Link, Pause, Reload, Stall, Worker};
        matches!(self, Flood(_) | Link(_) | Pause | Reload | Stall | Worker(_))
    }
}

/// The faults of a seed, with the milliseconds at which they begin; each that has an end has it within these as well.
pub(crate) fn draw(
    stations: usize,
    nodes: usize,
    workers: usize,
    until_ms: u64,
    random: &mut Random,
) -> Vec<(u64, Fault)> {
    let mut faults = vec![(0, Fault::Weather(weather(random)))];
    for _ in 0..random.within(1..=7) {
        let at = random.below(until_ms);
        let lasts = at + random.within(10..=2500);
        let station = random.below(stations as u64) as usize;
        let node = random.below(nodes as u64) as usize;
        let fault = |fault| vec![(at, fault)];
        faults.extend(match random.below(18) {
            0 | 1 => vec![(at, Fault::Orchestrator(false)), (lasts, Fault::Orchestrator(true))],
            2 => vec![(at, Fault::Link(false)), (lasts, Fault::Link(true))],
            3 => fault(Fault::Stall),
            4 => vec![(at, Fault::Station(station, false)), (lasts, Fault::Station(station, true))],
            5 => vec![(at, Fault::Cable(station, true)), (lasts, Fault::Cable(station, false))],
            6 => vec![(at, Fault::Silence(node, true)), (lasts, Fault::Silence(node, false))],
            7 => fault(Fault::Vanish(node)),
            8 => fault(Fault::Pause),
            9 => fault(Fault::Worker(random.below(workers as u64) as usize)),
            10 => {
                let port = random.below(2) as u16;
                vec![(at, Fault::Port(port, false)), (at + random.within(1..=200), Fault::Port(port, true))]
            }
            11 => fault(Fault::Flood(random.within(10..=120))),
            12 | 13 => vec![(at, Fault::Refuse(station, true)), (lasts, Fault::Refuse(station, false))],
            14..=16 => fault(Fault::Reload),
            _ if random.percent(40) => fault(Fault::Restart),
            _ => fault(Fault::Weather(weather(random))),
        });
    }
    for _ in 0..random.below(3) {
        faults.push((random.below(until_ms), Fault::Reload));
    }
    faults
}

fn weather(random: &mut Random) -> Weather {
    match random.below(4) {
        0 | 1 => Weather { loss: 0, twice: 0, delay_nanos: 300_000 },
        2 => Weather { loss: 2, twice: 3, delay_nanos: 3_000_000 },
        _ => Weather { loss: 10, twice: 8, delay_nanos: 20_000_000 },
    }
}

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace(|| format!("fault: {fault:?}"));
        if !fault.is_gentle() {
            self.note_fault();
        }
        match fault {
            Fault::Orchestrator(false) => self.crash_orchestrator(),
            Fault::Orchestrator(true) => self.restart_orchestrator(),
            Fault::Link(holds) => {
                self.plane.cut = !holds;
                if !holds {
                    self.lose_appliance();
                }
            }
            Fault::Stall => self.stall(),
            Fault::Station(at, false) => {
                let told = self.random.percent(50);
                self.lose_node(at, told);
                self.stations[at].crash();
            }
            Fault::Station(at, true) => {
                self.stations[at].up = true;
                if !self.stations[at].is_backend() {
                    self.connect_node(at);
                }
            }
            Fault::Cable(at, out) => self.stations[at].cut = out,
            Fault::Refuse(at, refuses) => self.stations[at].refuses = refuses,
            Fault::Silence(at, true) => self.stations[at].silent = true,
            Fault::Silence(at, false) => self.speak_again(at),
            Fault::Vanish(at) => self.vanish(at),
            Fault::Pause => self.paused_until = self.now.plus(self.random.within(100..=4000) * 1_000_000),
            Fault::Worker(at) => self.stalled[at] = self.now.plus(self.random.within(1..=80) * 1_000_000),
            Fault::Port(port, all) => {
                self.ports_limited = !all;
                let frames = if all { usize::MAX } else { self.random.below(20) as usize };
                self.appliance.net.limit_transmit(millrace_fastpath::driver::PortId(port), frames);
            }
            Fault::Weather(weather) => self.weather = weather,
            Fault::Flood(frames) => {
                for _ in 0..frames {
                    let at = self.now.plus(self.random.below(100_000_000));
                    self.at(at, Happening::Hostile);
                }
            }
            Fault::Reload => self.vary_configuration(),
            Fault::Restart => self.restart_appliance(),
        }
    }

    /// The stream holds, and is silent; the appliance's end takes that for a loss after a quarter of a second.
    fn stall(&mut self) {
        let Some(stream) = self.plane.stream else { return };
        let lasts = self.random.within(50..=1500) * 1_000_000;
        self.plane.stalled_until = self.now.plus(lasts);
        if lasts > 250_000_000 {
            self.at(self.now.plus(250_000_000), Happening::Quiet(stream));
            self.at(self.now.plus(lasts), Happening::Found(stream));
        }
    }

    /// What was said in the meantime is lost, and so is the stream that it was said on.
    pub(crate) fn speak_again(&mut self, at: usize) {
        if std::mem::take(&mut self.stations[at].silent) {
            self.lose_node(at, true);
        }
    }

    fn vanish(&mut self, at: usize) {
        let Some(id) = self.stations[at].instances.keys().next().copied() else { return };
        // The node says so, at once or never by itself: then the orchestrator hears of it when the node comes anew.
        let says = self.random.percent(70);
        let mut out = Vec::new();
        let now_ms = self.now_ms();
        let said = self.stations[at].step(crate::serving::Step::Fail(id), now_ms, &mut out);
        match said {
            Some(up) if says => self.node_says(at, up),
            _ => self.lose_node(at, true),
        }
    }
}
