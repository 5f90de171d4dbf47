//! A poll-mode worker: one thread, one core, one loop.
//!
//! ```text
//!  poll ─┬─ newer tables? take them, say so
//!        ├─ each port:  receive ─► round
//!        ├─ each ring:  frames handed over by other workers ─► round
//!        ├─ injected frames ─► round
//!        ├─ segments of the hub's that are due ─► round
//!        ├─ holds: release what can go, expire what must ─► round
//!        ├─ splices: SYNs that are due, what a connection was waited with ─► round
//!        ├─ commands of the slowpath
//!        └─ a few flows of the sweep
//!
//!  round: classify ─► dns ─► service ─► aside ─► bier ─► hub ─► host ─► transit ─► icmp ─► output ─► transmit ─► free
//! ```
//!
//! The loop allocates nothing, frees nothing, takes no lock and makes no system call outside the driver. It reads the
//! clock once a round.

mod end;
mod hub;
mod release;
mod splices;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_queue::ArrayQueue;

use crate::bucket::TokenBucket;
use crate::clock::{Clock, Nanos};
use crate::counters::FlowRow;
use crate::dns::{Limiter, PREFIXES};
use crate::driver::{BURST_MAX, Burst, Driver, Frame, PORTS_MAX, PortId};
use crate::fates::Fates;
use crate::flow::{FlowHasher, FlowTable};
use crate::hold::Holds;
use crate::node::bier::PuntLimit;
use crate::node::fragment::FragmentTable;
use crate::node::icmp::{self, ERRORS_BURST, ERRORS_PER_SECOND};
use crate::node::output::{self, Outbox};
use crate::node::service::ServiceNode;
use crate::node::{
    self, Context, Lanes, Leaving, NodeId, Outgoing, aside, bier, classify, dns, host, transit,
};
use crate::packet::{BierPacket, Kind, Meta, Metas, NOT_TRACED, Network, Origin, Packet};
use crate::queue::{Command, Injected, Reply};
use crate::shared::{Shared, WorkerShared};
use crate::splice::table::Splices;
use crate::tables::{InterfaceId, Tables};
use crate::trace::TraceBuffer;
use crate::wake::{WakeLimit, Waker};
use release::Pacer;

/// Packets that wait on the ring from one worker to another. A burst from each of some ports fits; more means that the
/// owner is overloaded, and waiting longer wouldn't help.
pub const RING_MAX: usize = 1024;
/// Flows looked at by one poll's sweep.
const SWEEP_MAX: usize = 16;
/// Places of the flow table looked at by one poll for a list of flows.
const LISTED_MAX: usize = 512;
/// What cookies' keys are derived for.
const COOKIES: u64 = 1;
/// How often the sweep takes a step, in nanoseconds: a million flows are passed in a little over six seconds.
const SWEEP_NANOS: u64 = 100_000;

/// What one worker is given of the appliance's limits.
#[derive(Clone, Debug)]
pub struct WorkerLimits {
    /// Flows.
    pub flows: usize,
    /// Packets held.
    pub holds: usize,
    /// Packets held of one source prefix.
    pub holds_per_prefix: u32,
    /// Wakes.
    pub wakes: WakeLimit,
    /// Source prefixes that the limiter of DNS responses tells apart.
    pub prefixes: usize,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        Self {
            flows: 1 << 20,
            holds: 8192,
            holds_per_prefix: 32,
            wakes: WakeLimit { per_second: 20.0, burst: 50.0 },
            prefixes: PREFIXES,
        }
    }
}

/// The rings between workers.
#[derive(Debug)]
pub struct Rings<F> {
    /// `between[from][to]`
    between: Vec<Vec<ArrayQueue<(F, Meta)>>>,
    /// Workers that still receive, and so may hand frames over.
    receiving: AtomicUsize,
}

impl<F> Rings<F> {
    /// The rings of `workers` workers.
    pub fn new(workers: usize) -> Arc<Self> {
        let ring = |_| ArrayQueue::new(RING_MAX);
        let between = (0..workers).map(|_| (0..workers).map(ring).collect()).collect();
        Arc::new(Self { between, receiving: AtomicUsize::new(0) })
    }
}

/// One worker.
pub struct Worker<D: Driver, C: Clock> {
    clock: C,
    index: usize,
    shared: Arc<Shared>,
    tables: Arc<Tables>,
    rings: Arc<Rings<D::Frame>>,
    hasher: FlowHasher,
    service: ServiceNode,
    holds: Holds,
    waker: Waker,
    limiter: Limiter,
    pacer: Pacer,
    fragments: FragmentTable,
    errors: TokenBucket,
    bier_punts: PuntLimit,
    metas: Metas,
    trace: Option<Box<TraceBuffer>>,
    /// A list of flows that was asked for, and the place to go on at.
    listing: Option<(Vec<FlowRow>, usize)>,
    lanes: Lanes<D::Frame>,
    scratch: Vec<Packet<D::Frame>>,
    scratch_out: Vec<Outgoing<D::Frame>>,
    outboxes: Box<[Outbox<D::Frame>]>,
    swept: Nanos,
    /// Last, for it is dropped last: by then no frame of its pools is held here.
    driver: D,
}

impl<D: Driver, C: Clock> Drop for Worker<D, C> {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl<D: Driver, C: Clock> Worker<D, C> {
    /// Takes all memory that the worker will ever use. `flow_keys` are the same for all workers of an appliance.
    pub fn new(
        index: usize,
        driver: D,
        clock: C,
        shared: Arc<Shared>,
        rings: Arc<Rings<D::Frame>>,
        flow_keys: [u64; 2],
        limits: &WorkerLimits,
    ) -> Self {
        let tables = shared.tables();
        shared.set_epoch(index, tables.generation);
        let waker = Waker::new(limits.wakes, shared.clone(), index);
        let hasher = FlowHasher::new(flow_keys);
        let flows = FlowTable::new(limits.flows);
        let holds = Holds::new(limits.holds, limits.holds_per_prefix);
        let splices = Splices::new(flows.capacity(), holds.capacity(), hasher.keys_for(COOKIES));
        let mut worker = Self {
            driver,
            clock,
            index,
            shared,
            tables,
            rings,
            hasher,
            service: ServiceNode { flows, splices },
            holds,
            waker,
            limiter: Limiter::new(flow_keys, limits.prefixes),
            pacer: Pacer::default(),
            fragments: FragmentTable::default(),
            errors: TokenBucket::new(ERRORS_PER_SECOND, ERRORS_BURST),
            bier_punts: PuntLimit::default(),
            metas: Metas::default(),
            trace: None,
            listing: None,
            lanes: Lanes::default(),
            scratch: Vec::with_capacity(BURST_MAX),
            scratch_out: Vec::with_capacity(BURST_MAX),
            outboxes: (0..PORTS_MAX).map(|_| Outbox::default()).collect(),
            swept: Nanos::default(),
        };
        worker.lend();
        worker
    }

    /// One turn of the loop. Returns how many frames it moved.
    pub fn poll(&mut self) -> usize {
        self.refresh();
        let mut moved = 0;
        for port in 0..self.driver.ports() {
            moved += self.poll_port(PortId(port as u16));
        }
        moved += self.poll_rings();
        moved += self.poll_injects();
        moved += self.poll_hub();
        moved += self.poll_holds();
        moved += self.poll_splices();
        self.poll_commands();
        self.sweep();
        let fates = &self.own().counters.fates;
        fates.polls.add(1);
        if moved == 0 {
            fates.idle_polls.add(1);
        }
        moved
    }

    /// This worker's fates as they stand.
    pub fn fates(&self) -> Fates {
        Fates::read(&self.own().counters.fates)
    }

    /// The driver, for tests that look at its pool.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    fn own(&self) -> &WorkerShared {
        &self.shared.workers[self.index]
    }

    /// Takes the newest tables. The slowpath keeps the old ones alive until it sees the new epoch, so the last
    /// reference is never dropped here.
    #[inline]
    fn refresh(&mut self) {
        if self.shared.is_newer(self.tables.generation) {
            self.tables = self.shared.tables();
            self.driver.renew();
            self.shared.set_epoch(self.index, self.tables.generation);
            if let Some(bounds) = self.tables.policy.bounds {
                let workers = self.shared.workers.len();
                self.holds.set_per_prefix_max(bounds.prefix_share(workers));
                self.waker.set_limit(bounds.wake_share(workers));
            }
        }
    }

    #[inline]
    fn poll_port(&mut self, port: PortId) -> usize {
        let mut burst = Burst::new();
        let received = self.driver.receive(port, &mut burst);
        if received > 0 {
            self.own().counters.fates.received.add(received as u64);
            // Asked for here, the headers of the last arrive while the first are read.
            burst.iter().filter_map(|frame| frame.bytes().first()).for_each(D::Frame::prefetch);
            self.round_beside(received, |flows, cx, lanes| {
                classify::process(port, burst.drain(..), flows, cx, lanes);
            });
        }
        received
    }

    #[inline]
    fn poll_rings(&mut self) -> usize {
        // Looked at before a reference is taken, as below: a poll that finds nothing changes no count.
        if self.rings.between.iter().all(|from| from[self.index].is_empty()) { 0 } else { self.take_handed() }
    }

    #[inline(never)]
    fn take_handed(&mut self) -> usize {
        let rings = self.rings.clone();
        let mut moved = 0;
        let index = self.index;
        for ring in rings.between.iter().map(|from| &from[index]).filter(|ring| !ring.is_empty()) {
            self.round(0, |cx, lanes| {
                let mut count = 0;
                while count < BURST_MAX {
                    let Some((frame, known)) = ring.pop() else { break };
                    count += 1;
                    let mut meta = cx.metas.take();
                    // The trace, if any, is the other worker's.
                    *meta = Meta { trace: NOT_TRACED, ..known };
                    let packet = Packet { frame, meta };
                    match packet.meta.kind {
                        Kind::Plain => lanes.service.push(packet),
                        _ => classify::handed_in(packet, cx, lanes),
                    }
                }
                moved += count;
                cx.counters.fates.handed_in.add(count as u64);
            });
        }
        moved
    }

    #[inline]
    fn poll_injects(&mut self) -> usize {
        if self.own().queues.injects.is_empty() { 0 } else { self.take_injected() }
    }

    #[inline(never)]
    fn take_injected(&mut self) -> usize {
        let shared = self.shared.clone();
        let own = &shared.workers[self.index];
        let queues = &own.queues;
        let mut frames: Burst<D::Frame> = Burst::new();
        let mut injected = [(InterfaceId::default(), Injected::Frame); BURST_MAX];
        while !frames.is_full() {
            let Some(parcel) = queues.injects.pop() else { break };
            let port = node::port_of(&self.tables, parcel.interface).unwrap_or_default();
            // Without a buffer the frame is lost before it was injected; who sent it repeats it, as on a wire.
            let frame = self.driver.allocate(port).and_then(|mut frame| {
                if copy_into(&mut frame, parcel.bytes()) {
                    return Some(frame);
                }
                self.driver.free(frame);
                None
            });
            match frame {
                Some(frame) => {
                    injected[frames.len()] = (parcel.interface, parcel.injected);
                    frames.push(frame);
                }
                None => own.counters.fates.injects_lost.add(1),
            }
            // Parcels go round between queues that have room for all of them.
            let _ = queues.injects_empty.push(parcel);
        }
        let count = frames.len();
        self.round(0, |cx, lanes| {
            cx.counters.fates.injected.add(count as u64);
            for (frame, (interface, what)) in frames.drain(..).zip(injected) {
                match what {
                    Injected::Frame => {
                        let leaving = Leaving::Injected;
                        lanes.output.push(Outgoing { frame, interface, leaving, trace: NOT_TRACED });
                    }
                    Injected::Bier => {
                        let (network, origin) = (Network::BierOfOurs, Origin::Arrival);
                        lanes.bier.push(BierPacket { frame, interface, network, origin, trace: NOT_TRACED });
                    }
                }
            }
        });
        count
    }

    fn poll_commands(&mut self) {
        if self.trace.as_ref().is_some_and(|trace| trace.is_full()) {
            self.reply_trace();
        }
        self.list_flows();
        let Some(command) = self.own().queues.commands.pop() else { return };
        match command {
            // A newer request ends the older one with what it has.
            Command::Trace(buffer) => {
                self.reply_trace();
                self.trace = Some(buffer);
            }
            // A newer request ends the older one with what it has.
            Command::Flows(rows) => {
                self.reply_flows();
                self.listing = Some((rows, 0));
            }
        }
    }

    /// Copies the flows at the next few places into the list that was asked for.
    fn list_flows(&mut self) {
        let Some((rows, from)) = self.listing.as_mut() else { return };
        let now = self.clock.now();
        let flows = &self.service.flows;
        let room = rows.capacity() - rows.len();
        rows.extend(flows.range(*from..*from + LISTED_MAX).take(room).map(|(position, flow)| FlowRow {
            service: flow.service,
            protocol: flow.protocol(),
            client: (flow.client, flow.client_port),
            vip: (flow.vip, flow.vip_port),
            instance: (flow.instance, flow.instance_port),
            nat: (flow.nat_port != 0).then(|| (flows.nat_addr(position), flow.nat_port)),
            state: flow.state().name(),
            idle_seconds: flow.idle_seconds(now),
        }));
        *from += LISTED_MAX;
        if *from >= flows.places() || rows.len() == rows.capacity() {
            self.reply_flows();
        }
    }

    fn reply_flows(&mut self) {
        if let Some((rows, _)) = self.listing.take() {
            // The queue of replies is as long as that of commands.
            let _ = self.own().queues.replies.push(Reply::Flows(rows));
        }
    }

    fn reply_trace(&mut self) {
        if let Some(buffer) = self.trace.take() {
            let _ = self.own().queues.replies.push(Reply::Trace(buffer));
        }
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        if now.since(self.swept) < SWEEP_NANOS {
            return;
        }
        self.swept = now;
        self.service.sweep(SWEEP_MAX, now, &self.tables, &self.shared.workers[self.index].counters);
    }

    /// Runs what `fill` puts into the lanes through the nodes, and empties every box into its port. `received` is the
    /// number of frames that `fill` classifies; 0 when their way began elsewhere. A round has at most [`BURST_MAX`] frames.
    #[inline]
    fn round(&mut self, received: usize, fill: impl FnOnce(&mut Context<'_>, &mut Lanes<D::Frame>)) {
        self.round_beside(received, |_, cx, lanes| fill(cx, lanes));
    }

    /// The same for who asks memory for flows while it fills the lanes.
    #[inline]
    fn round_beside(
        &mut self,
        received: usize,
        fill: impl FnOnce(&FlowTable, &mut Context<'_>, &mut Lanes<D::Frame>),
    ) {
        let Self { driver, clock, shared, lanes, scratch, scratch_out, outboxes, service, .. } = self;
        let own = &shared.workers[self.index];
        let cx = &mut Context {
            tables: &self.tables,
            ports_down: shared.ports_down(),
            slots: &shared.slots,
            counters: &own.counters,
            queues: &own.queues,
            now: clock.now(),
            worker: self.index,
            workers: shared.workers.len(),
            hasher: &self.hasher,
            holds: &mut self.holds,
            waker: &mut self.waker,
            triples: &shared.triples,
            fragments: &mut self.fragments,
            errors: &mut self.errors,
            bier_punts: &mut self.bier_punts,
            limiter: &mut self.limiter,
            metas: &mut self.metas,
            trace: self.trace.as_deref_mut(),
        };
        let mut meter = Meter { clock, since: clock.cycles() };
        fill(&service.flows, cx, lanes);
        meter.charge(NodeId::Classify, received, cx);
        hand_over(&self.rings, cx, lanes);
        let frames = lanes.dns.len();
        if frames > 0 {
            dns::process(scratch, cx, lanes);
            meter.charge(NodeId::Dns, frames, cx);
        }
        let frames = lanes.service.len() + lanes.expired.len();
        if frames > 0 || !lanes.handshakes.is_empty() {
            service.process(scratch, cx, lanes);
            meter.charge(NodeId::Service, frames, cx);
        }
        let frames = lanes.aside.len();
        if frames > 0 {
            aside::process(&mut service.flows, scratch, cx, lanes);
            meter.charge(NodeId::Service, frames, cx);
        }
        let frames = lanes.bier.len() + lanes.into_bier.len();
        if frames > 0 {
            let outboxes = &mut outboxes[..driver.ports()];
            bier::process(driver, outboxes, cx, lanes);
            // For what comes behind it boxes are empty.
            output::transmit_all(driver, outboxes, cx);
            meter.charge(NodeId::Bier, frames, cx);
        }
        let frames = lanes.hub.len();
        if frames > 0 {
            node::hub::process(scratch, cx, lanes);
            meter.charge(NodeId::Hub, frames, cx);
        }
        let frames = lanes.host.len();
        if frames > 0 {
            host::process(scratch, cx, lanes);
            meter.charge(NodeId::Host, frames, cx);
        }
        let frames = lanes.transit.len() + lanes.opening.len();
        if frames > 0 {
            transit::process(&mut service.flows, scratch, cx, lanes);
            meter.charge(NodeId::Transit, frames, cx);
        }
        if !lanes.refused.is_empty() {
            icmp::process(&service.flows, cx, lanes);
        }
        let frames = lanes.output.len();
        if frames > 0 {
            let outboxes = &mut outboxes[..driver.ports()];
            output::process(scratch_out, outboxes, cx, lanes);
            output::transmit_all(driver, outboxes, cx);
            meter.charge(NodeId::Output, frames, cx);
        }
        for frame in lanes.free.drain(..) {
            driver.free(frame);
        }
    }
}

/// Charges the cycles since the last reading to a node.
struct Meter<'a, C> {
    clock: &'a C,
    since: u64,
}

impl<C: Clock> Meter<'_, C> {
    #[inline]
    fn charge(&mut self, node: NodeId, frames: usize, cx: &Context<'_>) {
        let cycles = self.clock.cycles();
        if frames > 0 {
            let counters = cx.counters.node(node);
            counters.frames.add(frames as u64);
            counters.vectors.add(1);
            counters.cycles.add(cycles.wrapping_sub(self.since));
        }
        self.since = cycles;
    }
}

/// Gives packets to the owners of their flows. A full ring means that the owner is overloaded: counted and dropped.
fn hand_over<F: Frame>(rings: &Rings<F>, cx: &mut Context<'_>, lanes: &mut Lanes<F>) {
    // Taken from the end, in the order in which they came: a flow's packets must not overtake one another.
    lanes.hand_over.reverse();
    while let Some((owner, packet)) = lanes.hand_over.pop() {
        // The box stays with its worker.
        let Packet { frame, meta } = packet;
        match rings.between[cx.worker][owner].push((frame, *meta)) {
            Ok(()) => {
                cx.counters.fates.handed_out.add(1);
                cx.metas.put(meta);
            }
            Err((frame, _)) => {
                let packet = Packet { frame, meta };
                let reason = classify::Drop::OwnerBehind;
                cx.drop(NodeId::Classify, reason as usize, reason.name(), packet, lanes);
            }
        }
    }
}

/// Copies bytes into an empty frame; false if they don't fit.
fn copy_into<F: Frame>(frame: &mut F, bytes: &[u8]) -> bool {
    let fits = frame.extend(bytes.len());
    if fits {
        frame.bytes_mut().copy_from_slice(bytes);
    }
    fits
}
