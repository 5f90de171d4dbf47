//! A link that goes down under traffic: the backup gets what it led to, and the link itself again when it comes up.

use millrace_hw_tests::edge::Shape;
use millrace_hw_tests::lab::{Capture, Host, Look, wait_until};

use crate::bier::{
    PACKETS, STATIC, assert_each_once, frame, send, site, texts, wait_for_copies, wait_for_neighbours,
};
use crate::world::{SOON, World};

/// p3 is behind lan, with p2 behind upstream standing in; for p2 stands nobody.
const BIER: &str = r#"
[bier]
bfr_prefix = "192.0.2.1"
[[bier.subdomain]]
id = 0
bfr_id = 5
bift_id = { "si 0" = 1000 }
table = [
  { neighbour = "p2", address = "172.16.53.53", bfr_ids = "1,2", bift_id = { "si 0" = 2000 } },
  { neighbour = "p3", address = "198.51.100.21", bfr_ids = "3,66-70", bift_id = "static", backup = "p2" },
]
"#;

/// Sends packets to four routers, and waits for so many copies from the start.
fn burst(world: &World, number: usize, copies: usize) -> Vec<String> {
    let texts = texts(number * PACKETS);
    let frames: Vec<_> =
        texts.iter().zip(7..).map(|(text, entropy)| frame(world, &[1, 2, 3, 66], entropy, text)).collect();
    send(world, &frames);
    wait_for_copies(world, copies as u64);
    texts
}

/// Takes the far end of a link down or up, and waits until the appliance takes the neighbour for it.
fn set_link(world: &World, host: &Host, neighbour: &str, up: bool) {
    host.run(&format!("ip link set dev eth0 {}", if up { "up" } else { "down" })).unwrap();
    wait_until("the appliance to see the link", SOON, || {
        let shown = world.appliance.show("bier").unwrap();
        let rows = shown["neighbours"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["neighbour"] == neighbour).cloned().unwrap_or_default();
        match row["down"] == !up {
            true => Look::Done(()),
            false => Look::NotYet(shown["neighbours"].to_string()),
        }
    })
    .unwrap();
}

#[test]
fn a_link_that_goes_down_moves_its_copies_to_the_backup_and_back() {
    let world = World::without_node(Shape::TwoPort, site(BIER));
    let (p2, p3) = (&world.edge.resolver, &world.edge.function);
    let capture = |host: &Host| Capture::start(world.edge.lab(), host, "eth0", "ether proto 0xab37").unwrap();
    wait_for_neighbours(&world);
    let (at_p2, at_p3) = (capture(p2), capture(p3));
    let first = burst(&world, 0, 2 * PACKETS);
    assert_each_once(at_p3, &[((STATIC, vec![3, 66], 31), first.clone())]);

    set_link(&world, p3, "198.51.100.21", false);
    // One copy for each, with all of its bits.
    let second = burst(&world, 1, 3 * PACKETS);
    set_link(&world, p3, "198.51.100.21", true);
    wait_for_neighbours(&world);
    let at_p3 = capture(p3);
    let third = burst(&world, 2, 5 * PACKETS);
    assert_each_once(at_p3, &[((STATIC, vec![3, 66], 31), third.clone())]);
    let of = |bits: &[usize]| (2000, bits.to_vec(), 31);
    assert_each_once(at_p2, &[(of(&[1, 2]), [first, third].concat()), (of(&[1, 2, 3, 66]), second)]);

    // Nobody stands in for p2: its routers are counted, the others served.
    let unprotected = |neighbour: &str| {
        let shown = world.appliance.show("bier").unwrap();
        let rows = shown["neighbours"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["neighbour"] == neighbour).cloned().unwrap_or_default();
        row["unprotected"].as_str().unwrap_or("?").to_owned()
    };
    assert_eq!((unprotected("172.16.53.53"), unprotected("198.51.100.21")), ("1,2".into(), String::new()));
    set_link(&world, p2, "172.16.53.53", false);
    let at_p3 = capture(p3);
    let fourth = burst(&world, 3, 6 * PACKETS);
    assert_each_once(at_p3, &[((STATIC, vec![3, 66], 31), fourth)]);
    let lost = world.appliance.show("bier").unwrap()["counters"]["lost"]["unroutable"].clone();
    assert_eq!(lost, PACKETS);
    world.conclude();
}
