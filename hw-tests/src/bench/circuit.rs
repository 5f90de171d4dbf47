//! A port whose frames go round: what the worker sent is restored and comes in again.
//!
//! On `net_ring` what is sent is received. A translated frame would come back translated, an answer as an answer; so on its
//! way out each frame is written anew by a [`Stimulus`]. That costs something, which is measured alone (the same circuit
//! without the worker) and subtracted.
//!
//! ```text
//!   ┌──► receive ──► worker ──► transmit ──► Stimulus::write ──┐
//!   └────────────────────── net_ring ◄─────────────────────────┘
//! ```

use millrace_fastpath::driver::{Burst, Driver, Frame, PortId};

/// Writes the frames that come in.
pub trait Stimulus: Send {
    /// Their length in bytes, all the same.
    fn frame_len(&self) -> usize;
    /// Writes the next one into exactly that many bytes.
    fn write(&mut self, bytes: &mut [u8]);
}

/// The port of a circuit.
pub const PORT: PortId = PortId(0);
/// Frames that go round: as many as with `start tx_first 4` of testpmd. All of them lie in the second-level cache.
pub const ROUND_FRAMES: usize = 128;

/// A driver of one port whose frames go round.
#[derive(Debug)]
pub struct Circuit<D: Driver, S> {
    driver: D,
    stimulus: S,
    headroom: usize,
    on_ring: usize,
    passed: u64,
    freed: Burst<D::Frame>,
}

impl<D: Driver, S: Stimulus> Circuit<D, S> {
    /// Fills the ring. `None` when the driver hasn't got the frames.
    pub fn new(driver: D, stimulus: S) -> Option<Circuit<D, S>> {
        let mut circuit =
            Circuit { driver, stimulus, headroom: 0, on_ring: 0, passed: 0, freed: Burst::new() };
        while circuit.on_ring < ROUND_FRAMES {
            let frame = circuit.driver.allocate(PORT)?;
            circuit.headroom = frame.headroom();
            circuit.freed.push(frame);
            circuit.return_freed();
        }
        circuit.passed = 0;
        Some(circuit)
    }

    /// Frames that came out of the ring and went back.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// One turn without a worker: what a circuit itself costs.
    #[inline]
    pub fn turn(&mut self) {
        let mut burst = Burst::new();
        self.receive(PORT, &mut burst);
        self.transmit(PORT, &mut burst);
    }

    /// Makes each frame of the burst the next one of the stimulus.
    #[inline]
    fn restore(&mut self, burst: &mut Burst<D::Frame>) {
        let len = self.stimulus.frame_len();
        for frame in burst {
            let headroom = frame.headroom();
            let moved = match headroom.checked_sub(self.headroom) {
                Some(more) => frame.prepend(more),
                None => frame.trim_front(self.headroom - headroom),
            };
            let had = frame.bytes().len();
            let cut = if had < len { frame.extend(len - had) } else { frame.truncate(len) };
            assert!(moved && cut, "a frame of one segment can be given its old length");
            self.stimulus.write(frame.bytes_mut());
        }
    }

    /// Frames that the worker freed (it had held them, say) go round like those that it sent; those that it took from the pool
    /// in between go back there.
    fn return_freed(&mut self) {
        let mut burst = std::mem::take(&mut self.freed);
        self.send_round(&mut burst);
        for refused in burst {
            self.driver.free(refused);
        }
    }

    /// Sends what belongs to the round, and gives back to the pool what came from there in between: beyond a wire it would
    /// be gone, too. Returns how many were taken care of.
    #[inline]
    fn send_round(&mut self, burst: &mut Burst<D::Frame>) -> usize {
        let mut beyond = 0;
        while self.on_ring + burst.len() > ROUND_FRAMES {
            let Some(frame) = burst.pop() else { break };
            self.driver.free(frame);
            beyond += 1;
        }
        self.restore(burst);
        let sent = self.driver.transmit(PORT, burst);
        self.on_ring += sent;
        self.passed += sent as u64;
        sent + beyond
    }
}

impl<D: Driver, S: Stimulus> Driver for Circuit<D, S> {
    type Frame = D::Frame;
    type Shared = D::Shared;

    fn ports(&self) -> usize {
        1
    }

    #[inline]
    fn receive(&mut self, port: PortId, burst: &mut Burst<D::Frame>) -> usize {
        if !self.freed.is_empty() {
            self.return_freed();
        }
        let received = self.driver.receive(port, burst);
        self.on_ring -= received;
        received
    }

    #[inline]
    fn transmit(&mut self, _port: PortId, burst: &mut Burst<D::Frame>) -> usize {
        self.send_round(burst)
    }

    fn allocate(&mut self, port: PortId) -> Option<D::Frame> {
        self.driver.allocate(port)
    }

    fn allocate_all(&mut self, port: PortId, count: usize, into: &mut Burst<D::Frame>) -> usize {
        self.driver.allocate_all(port, count, into)
    }

    #[inline]
    fn free(&mut self, frame: D::Frame) {
        self.freed.push(frame);
        if self.freed.is_full() {
            self.return_freed();
        }
    }

    fn share(&mut self, frame: &D::Frame, from: usize, times: u16) -> Option<D::Shared> {
        self.driver.share(frame, from, times)
    }

    fn put_behind(&mut self, frame: &mut D::Frame, shared: &mut D::Shared) -> bool {
        self.driver.put_behind(frame, shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::heap::{HeapNet, HeapPlan};

    struct Numbered(u32);

    impl Stimulus for Numbered {
        fn frame_len(&self) -> usize {
            64
        }

        fn write(&mut self, bytes: &mut [u8]) {
            bytes.fill(0xaa);
            bytes[..4].copy_from_slice(&self.0.to_be_bytes());
            self.0 += 1;
        }
    }

    #[test]
    fn whatever_becomes_of_a_frame_the_next_one_comes_in() {
        let plan = HeapPlan { ports: 1, workers: 1, frames: 512, rx_queue: 1024, tx_queue: 1024 };
        let (net, mut drivers) = HeapNet::new(&plan);
        let mut circuit = Circuit::new(drivers.remove(0), Numbered(0)).unwrap();
        let loop_back = || {
            while let Some(frame) = net.take(PORT) {
                assert!(net.deliver(PORT, 0, &frame));
            }
        };
        let mut expected = 0;
        for turn in 0..100 {
            loop_back();
            let mut burst = Burst::new();
            assert_eq!(circuit.receive(PORT, &mut burst), burst.capacity());
            for frame in &burst {
                assert_eq!(frame.bytes().len(), 64);
                assert_eq!(frame.bytes()[..4], u32::to_be_bytes(expected));
                expected += 1;
            }
            match turn % 4 {
                0 => burst.iter_mut().for_each(|frame| assert!(frame.prepend(4) && frame.extend(100))),
                1 => burst.iter_mut().for_each(|frame| assert!(frame.trim_front(14) && frame.truncate(3))),
                2 => burst.drain(..).for_each(|frame| circuit.free(frame)),
                _ => {
                    // More than came in: one from the pool, which must not make the round longer.
                    let extra = circuit.allocate(PORT).unwrap();
                    circuit.free(burst.pop().unwrap());
                    burst.push(extra);
                }
            }
            circuit.transmit(PORT, &mut burst);
            assert!(burst.is_empty());
            assert!(circuit.on_ring <= ROUND_FRAMES);
        }
    }
}
