//! Checks of backends: a server that hangs gets no new connections, keeps those that it has, and is used again when it
//! answers again.

use std::process::Command;

use millrace_hw_tests::edge::client::curl;
use millrace_hw_tests::edge::web::serve_files;
use millrace_hw_tests::edge::{Service, Shape, Site};
use millrace_hw_tests::lab::{Look, Process, wait_until};
use serde_json::Value;

use crate::world::{SOON, World, functions};

const BACKENDS: [&str; 2] = ["198.51.100.21", "198.51.100.22"];
const PAGE: &str = "http://web.fn.example/page.txt";

/// A web server at one of the addresses, whose page is that address.
fn serve(world: &World, address: &str) -> Process {
    let folder = world.edge.lab().folder().join(address);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("page.txt"), address).unwrap();
    let long: String = (0..131_072).map(|line| format!("{line:07}\n")).collect();
    std::fs::write(folder.join("long.txt"), long).unwrap();
    serve_files(&world.edge, address, &folder).unwrap()
}

/// The instance of `web` at an address.
fn instance(world: &World, address: &str) -> Option<Value> {
    let row = world.appliance.row("services", "web").ok()?;
    row["instances"].as_array()?.iter().find(|one| one["addresses"][0] == address).cloned()
}

fn wait_for_health(world: &World, address: &str, health: &str) -> Value {
    wait_until(&format!("{address} to be {health}"), SOON, || match instance(world, address) {
        Some(one) if one["health"] == health && one["checks"][0]["probes"] != 0 => Look::Done(one),
        other => Look::NotYet(format!("{other:?}")),
    })
    .unwrap()
}

fn signal(process: &Process, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_server_that_hangs_gets_nothing_new_and_keeps_what_it_has() {
    let backends =
        r#"[{ address = "198.51.100.21" }, { address = "198.51.100.22" }, { address = "2001:db8:1::21" }]"#;
    let health = r#"{ kind = "http", path = "/page.txt", interval_ms = 250, timeout_ms = 200, down_after = 2, up_after = 2 }"#;
    let web = Service::of_backends("web", 0, backends).set("health", health);
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![web]));
    world.edge.function.address("eth0", "198.51.100.22/24").unwrap();
    let servers = BACKENDS.map(|address| serve(&world, address));
    for address in BACKENDS {
        wait_for_health(&world, address, "up");
    }

    let back = world.edge.lab().folder().join("back");
    let mut get = world.edge.client.command("curl");
    get.args(["-sS", "--fail", "--max-time", "120", "--limit-rate", "100k", "-4", "-o"]).arg(&back);
    let download = world.edge.client.spawn("curl", get.arg("http://web.fn.example/long.txt")).unwrap();
    let hanging = wait_until("the download to be a flow", SOON, || {
        // Those of servers that hang are few; the first that is there is the download's.
        let at =
            |address: &&str| instance(&world, address).is_some_and(|one| one["flows"].as_u64() > Some(0));
        match BACKENDS.iter().position(at) {
            Some(at) => Look::Done(at),
            None => Look::NotYet("no flow".to_owned()),
        }
    })
    .unwrap();
    let (address, other) = (BACKENDS[hanging], BACKENDS[1 - hanging]);

    signal(&servers[hanging], "-STOP");
    // However long all that follows takes, the download isn't over by then.
    signal(&download, "-STOP");
    let down = wait_for_health(&world, address, "down");
    assert_eq!(down["checks"][0]["error"], "timed out", "{down}");
    for _ in 0..20 {
        let page = curl(&world.edge.client, "-4", PAGE).unwrap();
        assert_eq!((page.status, page.body.as_str()), (200, other), "a new connection");
    }
    let text = world.appliance.ask("show services").unwrap();
    assert!(text.contains("timed out"), "{text}");
    let up = format!("millrace_check_up{{service=\"web\",address=\"{address}\",port=\"80\"}} 0\n");
    let metrics = world.appliance.metrics().unwrap();
    assert!(metrics.contains(&up), "{metrics}");
    assert!(download.exited().is_none(), "the download ended");

    signal(&servers[hanging], "-CONT");
    signal(&download, "-CONT");
    wait_for_health(&world, address, "up");
    assert!(download.wait(SOON * 4).unwrap().success());
    let long = std::fs::read(world.edge.lab().folder().join(address).join("long.txt")).unwrap();
    assert!(std::fs::read(&back).unwrap() == long, "the body changed on its way");
    wait_until("new connections to come back", SOON, || {
        curl(&world.edge.client, "-4", PAGE).is_ok_and(|page| page.body == address)
    })
    .unwrap();
    drop(servers);
    world.conclude();
}

/// Two backends of which one has nobody that listens.
fn one_of_two_listens(health: &str) -> (World, Process) {
    let backends =
        r#"[{ address = "198.51.100.21" }, { address = "198.51.100.22" }, { address = "2001:db8:1::21" }]"#;
    let web = Service::of_backends("web", 0, backends).set("health", health);
    let world = World::without_node(Shape::TwoPort, Site::new(functions(), vec![web]));
    world.edge.function.address("eth0", "198.51.100.22/24").unwrap();
    let server = serve(&world, BACKENDS[0]);
    (world, server)
}

/// Ten new connections, and whom each of them reached.
fn reached(world: &World) -> Vec<String> {
    (0..10).filter_map(|_| Some(curl(&world.edge.client, "-4", PAGE).ok()?.body)).collect()
}

#[test]
fn a_port_that_is_closed_is_seen_by_connecting_to_it() {
    let health = r#"{ kind = "tcp", interval_ms = 250, timeout_ms = 200, down_after = 2, up_after = 2 }"#;
    let (world, server) = one_of_two_listens(health);
    wait_for_health(&world, BACKENDS[0], "up");
    let down = wait_for_health(&world, BACKENDS[1], "down");
    assert_eq!(down["checks"][0]["error"], "refused", "{down}");
    assert_eq!(reached(&world), [BACKENDS[0]; 10]);
    let late = serve(&world, BACKENDS[1]);
    wait_for_health(&world, BACKENDS[1], "up");
    wait_until("the other to be reached again", SOON, || reached(&world).contains(&BACKENDS[1].to_owned()))
        .unwrap();
    drop((server, late));
    world.conclude();
}

/// Nobody probes; clients' own handshakes tell that a backend refuses them, and it gets no more until its time is over.
#[test]
fn a_backend_that_refuses_clients_is_left_out() {
    let health = r#"{ passive = { failures = 3, window_ms = 20_000, eject_ms = 60_000 } }"#;
    let (world, server) = one_of_two_listens(health);
    let before = wait_until("both to be reached", SOON, || match reached(&world) {
        bodies if bodies.len() < 10 => Look::Done(bodies),
        bodies => Look::NotYet(format!("{bodies:?}")),
    })
    .unwrap();
    assert!(before.iter().all(|body| body == BACKENDS[0]), "{before:?}");
    wait_until("the one that refuses to be left out", SOON, || match instance(&world, BACKENDS[1]) {
        Some(one) if one["health"] == "ejected" => Look::Done(()),
        other => {
            reached(&world);
            Look::NotYet(format!("{other:?}"))
        }
    })
    .unwrap();
    assert_eq!(reached(&world), [BACKENDS[0]; 10]);
    drop(server);
    world.conclude();
}
