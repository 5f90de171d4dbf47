//! What can't be had is refused with words that help.

mod common;

use common::{assert_all_back, open, unique};
use millrace_dpdk::{
    Eal, EalConfig, EalError, Hugepages, OpenError, Pool, PoolError, PortConfig, PortError, Ports,
    PortsConfig,
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// In ordinary pages, of which there are so many and no more: asking for too much takes none from anybody else.
fn eal() -> &'static Eal {
    common::eal_with(Hugepages::Never)
}

fn refusal(device: &str) -> (PortError, String) {
    let config = PortsConfig { frames_per_port: 255, ..PortsConfig::default() };
    let error = Ports::open(eal(), &config, &[PortConfig::new("wan", device)]).expect_err("it can't be had");
    let text = error.to_string();
    assert!(text.starts_with("port \"wan\": "), "{text}");
    match error {
        OpenError::Port { source, .. } => (source, text),
        other => panic!("another error: {other}"),
    }
}

#[test]
fn text_that_is_no_device() {
    let (error, text) = refusal("eth0");
    assert!(matches!(error, PortError::BadDevice { .. }), "{text}");
    assert!(text.contains("\"eth0\""), "{text}");
}

#[test]
fn a_pci_device_that_isnt_there() {
    let (error, text) = refusal("fe:1f.7");
    assert!(matches!(error, PortError::NotFound { .. }), "{text}");
    assert!(text.contains("0000:fe:1f.7"), "{text}");
}

#[test]
fn a_driver_that_isnt_there() {
    let (error, text) = refusal("net_unheard_of0");
    assert!(matches!(error, PortError::DriverMissing { .. }), "{text}");
}

#[test]
fn an_interface_that_isnt_there() {
    for driver in ["net_af_packet", "net_af_xdp"] {
        let (error, text) = refusal(&format!("{},iface=nowhere0", unique(driver)));
        assert!(matches!(error, PortError::NoInterface { .. }), "{text}");
        assert!(text.contains("\"nowhere0\""), "{text}");
        let (error, text) = refusal(&unique(driver));
        assert!(matches!(error, PortError::InterfaceUnnamed { .. }), "{text}");
    }
}

#[test]
fn rights_that_are_missing() {
    let before = capabilities(None).expect("capabilities can be read");
    assert!(before.effective.contains(CapabilitySet::NET_ADMIN), "this test has to run as root");
    // Rights belong to threads: this one gives up its own.
    let without = std::thread::spawn(move || {
        let mut reduced = before;
        reduced.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, reduced).expect("rights can be given up");
        refusal(&format!("{},iface=lo", unique("net_af_packet")))
    });
    let (error, text) = without.join().unwrap();
    assert!(matches!(error, PortError::NotPermitted { .. }), "{text}");
    assert!(text.contains("CAP_NET_ADMIN") && !text.contains("CAP_NET_RAW"), "{text}");
}

#[test]
fn a_file_that_isnt_there() {
    let (error, text) = refusal(&format!("{},rx_pcap=/nowhere/in.pcap", unique("net_pcap")));
    assert!(matches!(error, PortError::Refused { .. }), "{text}");
}

#[test]
fn a_device_in_use() {
    let device = unique("net_ring");
    let (ports, drivers) = open(eal(), &device, 1, 255);
    let (error, text) = refusal(&device);
    assert!(matches!(error, PortError::InUse { .. }), "{text}");
    assert_all_back(&ports);
    drop((ports, drivers));
    let _again = open(eal(), &device, 1, 255);
}

#[test]
fn all_ports_or_none() {
    let (first, second) = (unique("net_ring"), unique("net_ring"));
    let config = PortsConfig { frames_per_port: 255, ..PortsConfig::default() };
    let wanted = [PortConfig::new("one", &first), PortConfig::new("two", "net_unheard_of0")];
    let error = Ports::open(eal(), &config, &wanted).expect_err("the second can't be had");
    assert!(error.to_string().starts_with("port \"two\": "), "{error}");
    // The first was let go of.
    let wanted = [PortConfig::new("one", &first), PortConfig::new("two", &second)];
    let (ports, drivers) = Ports::open(eal(), &config, &wanted).expect("both can");
    assert_eq!(ports.iter().map(|port| port.name().to_owned()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((ports.iter().count(), drivers.len()), (2, 1));
    assert_eq!(ports.iter().map(|port| port.device().to_owned()).collect::<Vec<_>>(), [&*first, &*second]);
}

#[test]
fn numbers_outside_the_limits() {
    let none = Ports::open(eal(), &PortsConfig::default(), &[]).expect_err("no port");
    assert!(matches!(none, OpenError::Number { .. }), "{none}");
    let config = PortsConfig { workers: 0, ..PortsConfig::default() };
    let none = Ports::open(eal(), &config, &[PortConfig::new("wan", "net_ring0")]).expect_err("no worker");
    assert!(matches!(none, OpenError::Number { .. }), "{none}");
    assert!(matches!(Pool::create(eal(), 0, 2048, None), Err(PoolError::Size { .. })));
    assert!(matches!(Pool::create(eal(), 8, 65536, None), Err(PoolError::Size { .. })));
    let memory = Pool::create(eal(), 1_000_000, 2048, None).expect_err("there isn't that much memory");
    assert!(matches!(memory, PoolError::Memory { .. }), "{memory}");
}

#[test]
fn a_second_environment() {
    let _first = eal();
    assert!(matches!(Eal::start(EalConfig::default()), Err(EalError::AlreadyStarted)));
}
