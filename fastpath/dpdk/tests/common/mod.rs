//! One environment per test process, ports with names of their own, frames with known bytes.
// Each test binary uses a part of this.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use millrace_dpdk::{DpdkDriver, DpdkFrame, Eal, EalConfig, Hugepages, PortConfig, Ports, PortsConfig};
use millrace_fastpath::driver::{BURST_MAX, Burst, Driver, Frame, PortId};

pub(crate) const PORT: PortId = PortId(0);

/// For all ports of a process. Half of it stays in pools of closed net_af_xdp ports, which never give their frames back.
const MEMORY_BYTES: usize = 192 << 20;

/// The process's environment, started by whichever test is first.
pub(crate) fn eal_with(hugepages: Hugepages) -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig { hugepages, memory_bytes: MEMORY_BYTES, ..EalConfig::default() };
        Eal::start(config).expect("the environment starts")
    })
}

pub(crate) fn eal() -> &'static Eal {
    eal_with(Hugepages::Auto)
}

/// A device name that no other test of this process uses.
pub(crate) fn unique(driver: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{driver}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// One port with a pool of `frames` frames.
pub(crate) fn open(eal: &Eal, device: &str, workers: u16, frames: usize) -> (Ports, Vec<DpdkDriver>) {
    let config = PortsConfig { workers, frames_per_port: frames, ..PortsConfig::default() };
    Ports::open(eal, &config, &[PortConfig::new("test", device)]).expect("the port opens")
}

/// A frame of `len` bytes that differ by `seed`.
pub(crate) fn frame(driver: &mut DpdkDriver, seed: usize, len: usize) -> DpdkFrame {
    let mut frame = driver.allocate(PORT).expect("the pool has frames");
    assert!(frame.extend(len), "{len} bytes fit");
    frame.bytes_mut().copy_from_slice(&pattern(seed, len));
    frame
}

pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed.wrapping_mul(131) + at * 7) as u8).collect()
}

/// Receives until a burst comes back empty.
pub(crate) fn receive_all(driver: &mut DpdkDriver) -> Vec<DpdkFrame> {
    let mut frames = Vec::new();
    loop {
        let mut burst = Burst::new();
        if driver.receive(PORT, &mut burst) == 0 {
            return frames;
        }
        assert!(burst.len() <= BURST_MAX);
        frames.extend(burst);
    }
}

/// Every frame is back in the port's pool.
pub(crate) fn assert_all_back(ports: &Ports) {
    let port = ports.get(PORT).unwrap();
    let pool = port.pool();
    assert_eq!(pool.available(), pool.size(), "frames are missing from the pool");
}
