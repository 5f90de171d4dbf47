//! An access switch: one packet comes over the trunk, and goes to the legs that its bits name, where hosts know nothing of BIER.
//!
//! ```text
//!                         ┌── leg1: hosts of number 66
//!   source ── trunk ── switch ── leg2: 67
//!                         └── leg3: 68
//! ```

use std::path::Path;

use millrace_hw_tests::edge::{Appliance, Driver};
use millrace_hw_tests::lab::{Capture, Lab, Look, wait_until};
use serde_json::Value;

use crate::bier::{HEADER, PACKETS, frame_between, listen_at, send_from, texts};
use crate::world::{BINARY, SOON};

/// Router 1 is the source: what is for it goes back there.
const BIER: &str = r#"
[bier]
bfr_prefix = "10.0.0.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
bift_id = { "si 0" = 1000 }
table = [
  { neighbour = "source", address = "10.0.0.100", bfr_ids = "1" },
  { neighbour = "leg1", encapsulation = "none", port = "leg1", bfr_ids = "66" },
  { neighbour = "leg2", encapsulation = "none", port = "leg2", bfr_ids = "67" },
  { neighbour = "leg3", encapsulation = "none", port = "leg3", bfr_ids = "68" },
]
"#;

const PORTS: [&str; 4] = ["trunk", "leg1", "leg2", "leg3"];

fn configuration(socket: &Path) -> String {
    let mut text = "schema_version = 1\n[site]\nname = \"switch\"\n\
        [memory]\nhugepages = \"never\"\nframes_per_port = 4095\n"
        .to_owned();
    for (at, name) in PORTS.into_iter().enumerate() {
        let device = Driver::AfXdp.device(at, name, 1);
        text.push_str(&format!(
            "[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\naddresses = [\"10.0.{at}.1/24\"]\n"
        ));
    }
    format!("{text}{BIER}[telemetry]\ncontrol_socket = \"{}\"\nlog = \"info\"\n", socket.display())
}

#[test]
fn bits_of_hosts_name_the_legs_that_get_a_packet() {
    let lab = Lab::new().unwrap();
    let switch = lab.host("switch").unwrap().on_cpu(0);
    let hosts = ["source", "host1", "host2", "host3"].map(|name| lab.host(name).unwrap().on_cpu(0));
    for (at, (port, host)) in PORTS.into_iter().zip(&hosts).enumerate() {
        switch.wire(port, host, "eth0").unwrap();
        switch.leave_to_dpdk(port).unwrap();
        host.address("eth0", &format!("10.0.{at}.100/24")).unwrap();
        // The source is elsewhere: it is what their kernels would ask to come by the way that leads back.
        host.route("default", &format!("10.0.{at}.1")).unwrap();
    }
    let socket = lab.folder().join("switch.sock");
    let file = lab.write("switch.toml", &configuration(&socket)).unwrap();
    let appliance = Appliance::launch(&switch, Path::new(BINARY), &file, &socket, Driver::AfXdp).unwrap();
    appliance.wait_until_up().unwrap();
    let shown = || appliance.show("bier").unwrap();
    wait_until("the source to be found", SOON, || {
        match shown()["neighbours"][0]["links"][0]["mac"].is_string() {
            true => Look::Done(()),
            false => Look::NotYet(shown()["neighbours"].to_string()),
        }
    })
    .unwrap();
    let [source, legs @ ..] = &hosts;
    let listeners: Vec<_> =
        (1..).zip(legs).map(|(at, host)| listen_at(host, &format!("10.0.{at}.100"))).collect();
    let mut captures: Vec<_> = hosts
        .iter()
        .map(|host| Capture::start(&lab, host, "eth0", "udp or ether proto 0xab37").unwrap())
        .collect();

    // Which bits each lot of packets has.
    let lots: [&[usize]; 5] = [&[66, 68], &[67], &[1, 66, 67, 68], &[1], &[68, 1]];
    let ends = || [switch.mac("trunk").unwrap(), source.mac("eth0").unwrap()];
    let mut sent = Vec::new();
    for (lot, bits) in lots.into_iter().enumerate() {
        let texts = texts(lot * PACKETS);
        let frames: Vec<_> =
            texts.iter().zip(7..).map(|(text, entropy)| frame_between(ends(), bits, entropy, text)).collect();
        send_from(source, &lab, &frames);
        sent.push((bits, texts));
    }
    let wanted = |id: usize| {
        let lots = sent.iter().filter(move |(bits, _)| bits.contains(&id));
        lots.flat_map(|(_, texts)| texts.clone()).collect::<Vec<_>>()
    };
    for (id, listener) in (66..).zip(&listeners) {
        let heard = || listener.stdout().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        listener.wait_until("the payloads", SOON, || heard().len() >= wanted(id).len()).unwrap();
        assert_eq!(heard(), wanted(id), "each once, in order, and no other");
    }
    wait_until("all copies to be counted", SOON, || {
        let report = shown();
        let rows = report["counters"]["copies"].as_array().unwrap();
        let copies: Vec<_> = rows.iter().map(|row| row["copies"].as_u64().unwrap() as usize).collect();
        match copies == [1, 66, 67, 68].map(|id| wanted(id).len()) {
            true => Look::Done(()),
            false => Look::NotYet(report["counters"].to_string()),
        }
    })
    .unwrap();

    // On the legs nothing but the payloads: to the group's own address, a hop less.
    for (id, capture) in (66..).zip(captures.drain(1..)) {
        let frames = capture.finish().unwrap();
        assert_eq!(frames.len(), wanted(id).len());
        for frame in frames {
            assert_eq!(frame.ether_type(), Some(0x0800));
            assert_eq!((&frame.bytes[..6], frame.bytes[22]), (&[1, 0, 0x5e, 1, 1, 2][..], 15));
        }
    }
    let mut back = captures.remove(0).finish().unwrap();
    back.retain(|frame| frame.bytes.get(17) == Some(&31));
    let payload = |bytes: &[u8]| String::from_utf8_lossy(&bytes[14 + HEADER + 28..]).into_owned();
    assert_eq!(back.iter().map(|frame| payload(&frame.bytes)).collect::<Vec<_>>(), wanted(1));
    let is_bit_1 = |bytes: &[u8]| bytes[26..26 + 32].iter().map(|byte| u32::from(*byte)).sum::<u32>() == 1;
    assert!(back.iter().all(|frame| is_bit_1(&frame.bytes)), "the legs' bits stay here");

    // For the legs' bits the switch answers, for all at once.
    let text = appliance.ask("bier ping --bits 66,67,68 --count 1 --timeout 20 --json").unwrap();
    let ping: Value = serde_json::from_str(&text).unwrap();
    let reply = &ping["reports"][0]["replies"][0];
    assert_eq!(
        (&reply["prefix"], &reply["result"]),
        (&"10.0.0.1".into(), &"the only receiver".into()),
        "{ping:#}"
    );
    assert_eq!((&reply["bfr_id"], &reply["hosts"]), (&66.into(), &"67,68".into()), "{ping:#}");
    assert_eq!(ping["reports"][0]["missing"], "", "{ping:#}");
    let table = appliance.ask("show bier neighbours").unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let count = wanted(66).len().to_string();
    let leg = ["0", "leg1", count.as_str(), "up", "hosts", "66", "leg1", "-", "none", "-"];
    assert!(rows.contains(&leg.to_vec()), "{table}");
    let report = shown();
    let lost = report["counters"]["lost"].as_object().unwrap();
    assert!(lost.values().all(|count| *count == 0), "{report:#}");
    drop(listeners);
    appliance.fates().unwrap();
    assert!(appliance.stop().unwrap().success());
    lab.inspect().unwrap();
}
