//! BIER-TE through a whole appliance: each bit is a copy, as the rows say, and a reload moves it.

use millrace_hw_tests::edge::{Appliance, Shape, Site};
use millrace_hw_tests::lab::{Capture, Look, wait_until};

use crate::bier::{PACKETS, STATIC, assert_each_once, frame, listen, send, site, texts, wait_for_copies};
use crate::world::{SOON, World};

const BIER: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
kind = "bier-te"
bift_id = { "si 0" = 1000 }
adjacencies = [
  { bit = 1, kind = "connected", address = "172.16.53.53", bift_id = { "si 0" = 2000 } },
  { bit = 2, kind = "connected", address = "198.51.100.21", bift_id = "static", do_not_clear = true },
  { bit = 3, kind = "routed", address = "198.51.100.21", bift_id = "static" },
  { bit = 4, kind = "decap" },
  { bit = 5, kind = "routed", address = "203.0.113.77" },
]
[[bier.listener]]
group = "232.1.1.2"
ports = ["lan"]
"#;

fn wait_for_links(world: &World, count: usize) {
    wait_until("all routers to be found", SOON, || {
        let shown = world.appliance.show("bier").unwrap();
        let rows = shown["adjacencies"].as_array().cloned().unwrap_or_default();
        match rows.iter().filter(|row| row["link"]["mac"].is_string()).count() == count {
            true => Look::Done(()),
            false => Look::NotYet(shown["adjacencies"].to_string()),
        }
    })
    .unwrap();
}

#[test]
fn each_bit_makes_its_copy_and_a_reload_moves_it() {
    let world = World::without_node(Shape::TwoPort, site(BIER));
    wait_for_links(&world, 3);
    let listener = listen(&world);
    let capture = |host| Capture::start(world.edge.lab(), host, "eth0", "ether proto 0xab37").unwrap();
    let [p2, p3] = [&world.edge.resolver, &world.edge.function].map(capture);
    // Bit 9 is another router's.
    let burst = |number: usize| {
        let texts = texts(number * PACKETS);
        let bits = [1, 2, 3, 4, 5, 9];
        let frames: Vec<_> =
            texts.iter().zip(7..).map(|(text, entropy)| frame(&world, &bits, entropy, text)).collect();
        send(&world, &frames);
        wait_for_copies(&world, 4 * (number as u64 + 1) * PACKETS as u64);
        texts
    };
    let first = burst(0);
    let moved: &'static str = Box::leak(
        BIER.replace("\"172.16.53.53\", bift_id = { \"si 0\" = 2000 }", "\"198.51.100.21\"").into_boxed_str(),
    );
    Appliance::configure(&world.edge, &Site { driver: world.appliance.driver(), ..site(moved) }, "edge.toml")
        .unwrap();
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("~ bier-adjacency 0 si 0 bit 1: adjacencies [connected 172.16.53.53"), "{told}");
    let second = burst(1);
    let heard = || listener.stdout().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    listener.wait_until("the payloads", SOON, || heard().len() >= 2 * PACKETS).unwrap();
    let mut payloads = heard();
    payloads.sort();
    assert_eq!(payloads, [first.clone(), second.clone()].concat(), "each payload once");

    let lost = world.appliance.show("bier").unwrap()["counters"]["lost"].clone();
    let lost: Vec<_> = lost.as_object().unwrap().iter().filter(|(_, count)| **count != 0).collect();
    assert_eq!(lost, [(&"no-tunnel".to_owned(), &(2 * PACKETS).into())]);
    let shown = world.appliance.ask("show bier bift").unwrap();
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let keeps = ["0", "0", "256", "1000", "2", "connected", "do-not-clear", "lan", "198.51.100.21", "196608"];
    assert!(rows.contains(&keeps.to_vec()), "{shown}");
    assert_each_once(p2, &[((2000, vec![9], 31), first.clone())]);
    let both = [first, second.clone()].concat();
    let moved = ((1000, vec![9], 31), second);
    let of = |bits: &[usize]| (STATIC, bits.to_vec(), 31);
    assert_each_once(p3, &[(of(&[2, 9]), both.clone()), (of(&[9]), both), moved]);
    drop(listener);
    world.conclude();
}
