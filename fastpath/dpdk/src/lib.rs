//! Safe ports, pools and frames of DPDK: the driver that the fastpath runs on.
//!
//! Below lies `dpdk-sys`; above, `millrace-fastpath` knows this crate by its two traits only, [`millrace_fastpath::driver::Driver`]
//! and [`millrace_fastpath::clock::Clock`]. This is one of the two crates with `unsafe` code: each block does one thing and says
//! why it may.
//!
//! ```text
//!  Eal ──► Ports::open ──┬─► Ports         the slowpath's: names, addresses, link, counters, further ports, removal
//!                        └─► DpdkDriver    one a worker: its queues on every port, its way to the pools
//!                              │ ▲
//!                  receive ────┘ └──── transmit, allocate, share, free
//!                           DpdkFrame
//! ```
//!
//! ```no_run
//! use millrace_dpdk::{Eal, EalConfig, PortConfig, Ports, PortsConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let eal = Eal::start(EalConfig { memory_bytes: 64 << 20, ..EalConfig::default() })?;
//! let config = PortsConfig { workers: 2, frames_per_port: 8191, ..PortsConfig::default() };
//! let (ports, drivers) = Ports::open(&eal, &config, &[PortConfig::new("wan", "net_af_xdp0,iface=wan")])?;
//! for driver in drivers {
//!     let eal = eal.clone();
//!     std::thread::spawn(move || {
//!         let _registered = eal.register_thread();   // gives the thread its own cache of each pool
//!         let _mine = driver;                        // poll until told to stop
//!     });
//! }
//! println!("{:?}", ports.iter().map(|port| port.link()).collect::<Vec<_>>());
//! # Ok(())
//! # }
//! ```
//!
//! Limits: x86-64 Linux; one [`Eal`] in the life of a process; a port is stopped by dropping everything that holds it, never
//! under a worker's feet.

pub mod clock;
mod device;
pub mod driver;
pub mod eal;
pub mod frame;
mod kernel;
pub mod links;
pub mod pool;
pub mod port;
pub mod ports;
pub mod shared;
mod xdp_sockets;

pub use clock::{TscClock, thread_cpu_nanos};
pub use driver::DpdkDriver;
pub use eal::{Eal, EalConfig, EalError, Hugepages, Memory, ThreadRegistration};
pub use frame::DpdkFrame;
pub use links::LinkWatch;
pub use pool::{Pool, PoolError};
pub use port::{Link, Port, PortConfig, PortError, PortStats};
pub use ports::{OpenError, Opened, Ports, PortsConfig};
pub use shared::DpdkShared;
