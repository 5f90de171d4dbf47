//! Reload under traffic: what the file says now is in force, what runs goes on, and a wrong file changes nothing.

use millrace_hw_tests::edge::client::{curl, dig};
use millrace_hw_tests::edge::{Appliance, DNS, RESOLVER, Service, Shape, Site};
use millrace_hw_tests::lab::{Look, wait_until};

use crate::world::{SOON, World, hello, slow_functions};

/// Writes another file in place of the appliance's own.
fn rewrite(world: &World, services: Vec<Service>) {
    let site = Site { driver: world.appliance.driver(), ..Site::new(slow_functions(), services) };
    Appliance::configure(&world.edge, &site, "edge.toml").unwrap();
}

/// A download that is under way goes on while its service leaves the file and others come; the new one is woken.
#[test]
fn a_download_goes_on_while_its_service_is_taken_away() {
    let echo = || Service::new("echo", 1, "echo");
    let world = World::build(Shape::TwoPort, Site::new(slow_functions(), vec![echo()]));
    let text: String = (0..131_072).map(|line| format!("{line:07}\n")).collect();
    let (sent, back) =
        (world.edge.lab().write("sent", &text).unwrap(), world.edge.lab().folder().join("back"));
    curl(&world.edge.client, "-4", &echo().url()).unwrap();
    let mut post = world.edge.client.command("curl");
    post.args(["-sS", "--fail", "--max-time", "60", "--limit-rate", "300k", "-4", "-X", "POST", "-o"]);
    post.arg(&back).arg("--data-binary").arg(format!("@{}", sent.display()));
    let download = world.edge.client.spawn("curl", post.arg(echo().url())).unwrap();
    wait_until("the download to be a flow", SOON, || {
        world.appliance.row("services", "echo").is_ok_and(|row| row["flows"].as_u64() > Some(1))
    })
    .unwrap();

    rewrite(&world, vec![echo(), hello("hello", 0)]);
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("+ service hello") && told.contains("is applied"), "{told}");
    let page = curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap();
    assert_eq!((page.status, page.body.contains("hello from")), (200, true), "{page:?}");

    rewrite(&world, vec![hello("hello", 0)]);
    let told = world.appliance.ask("reload --json").unwrap();
    assert!(told.contains("\"removed\"") && told.contains("\"applied\""), "{told}");
    let asked = dig(&world.edge.client, &format!("@{} echo.fn.example. A", DNS[0])).unwrap();
    assert!(asked.answers.is_empty(), "{}", asked.text);
    assert!(download.exited().is_none(), "the download was over before the reload");
    assert!(download.wait(SOON * 2).unwrap().success());
    assert!(std::fs::read(&back).unwrap() == text.as_bytes(), "the body changed on its way");
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    world.conclude();
}

/// By signal and by command: the reason is told, and the old file stays in force.
#[test]
fn a_wrong_file_changes_nothing_and_is_told() {
    let world = World::build(Shape::TwoPort, Site::new(slow_functions(), vec![hello("hello", 0)]));
    let before = world.appliance.show("services").unwrap();
    world.edge.lab().write("edge.toml", "schema_version = 1\n[site]\nname = \"edge lab\"\n").unwrap();
    world.appliance.process().hang_up();
    wait_until("the reload to be refused", SOON, || {
        let config = match world.appliance.show("config") {
            Ok(config) => config,
            Err(error) => return Look::NotYet(error.to_string()),
        };
        match config["reloads_refused"] == 1 && config["refusal"].as_str().is_some_and(|why| !why.is_empty())
        {
            true => Look::Done(()),
            false => Look::NotYet(config.to_string()),
        }
    })
    .unwrap();
    let refused = world.appliance.ask("reload").unwrap_err().to_string();
    assert!(refused.contains("exit status: 1"), "{refused}");

    // Right in itself, but nothing that can change while it runs.
    let frames =
        Site { driver: world.appliance.driver(), ..Site::new(slow_functions(), vec![hello("hello", 0)]) };
    Appliance::configure(&world.edge, &frames.limit("flows_per_worker", 2048), "edge.toml").unwrap();
    let refused = world.appliance.ask("reload --dry-run").unwrap_err().to_string();
    assert!(refused.contains("exit status: 1"), "{refused}");
    assert_eq!(
        world.appliance.show("services").unwrap().as_array().map(Vec::len),
        before.as_array().map(Vec::len)
    );

    rewrite(&world, vec![hello("hello", 0)]);
    assert!(world.appliance.ask("reload").unwrap().contains("says what runs already"));
    assert!(world.appliance.metrics().unwrap().contains("millrace_config_last_reload_successful 1\n"));
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    world.conclude();
}

/// A port comes and goes while a client is served: behind it is the upstream, and nothing of the client's breaks.
#[test]
fn a_port_comes_and_goes_under_traffic() {
    let with_upstream = Site::new(slow_functions(), vec![hello("hello", 0)]);
    let without = Site { upstream_port: false, ..with_upstream.clone() };
    let world = World::build(Shape::TwoPort, with_upstream.clone());
    let rewrite = |site: &Site| {
        let site = Site { driver: world.appliance.driver(), ..site.clone() };
        Appliance::configure(&world.edge, &site, "edge.toml").unwrap();
        world.appliance.ask("reload").unwrap()
    };
    let upstream = || dig(&world.edge.client, &format!("@{} www.example. A +tries=1 +time=2", RESOLVER[0]));
    let others = |command: &str| {
        let mut wrk = world.edge.client.command("wrk");
        wrk.args(["-t", "1", "-c", "8", "-d", "4s", "http://hello.fn.example/"]);
        let load = world.edge.client.spawn("wrk", &mut wrk).unwrap();
        wait_until("the load to be there", SOON, || {
            world.appliance.row("services", "hello").is_ok_and(|row| row["flows"].as_u64() >= Some(8))
        })
        .unwrap();
        let told = rewrite(if command == "come" { &with_upstream } else { &without });
        assert!(load.exited().is_none(), "the load was over before the reload");
        assert!(load.wait(SOON).unwrap().success());
        let text = load.stdout();
        assert!(text.contains("Requests/sec") && !text.contains("Socket errors"), "{text}");
        told
    };
    assert_eq!(upstream().unwrap().answers, ["198.51.100.80"]);
    // Twice: what was given back can be had again. The others, opened with it at the start, go on.
    for _ in 0..2 {
        let told = others("go");
        assert!(told.contains("- port upstream"), "{told}");
        assert!(world.appliance.row("ports", "upstream").is_err());
        let shown = world.edge.appliance.run("ip -details link show dev upstream").unwrap();
        assert!(!shown.contains("xdp"), "a program stayed on it: {shown}");
        assert!(upstream().is_err(), "nobody leads there any more");
        let told = others("come");
        assert!(told.contains("+ port upstream") && told.contains("is applied"), "{told}");
        assert_eq!(world.appliance.row("ports", "upstream").unwrap()["up"], true);
        assert_eq!(upstream().unwrap().answers, ["198.51.100.80"]);
    }
    world.conclude();
}

/// The device stays in the workers' hands: nothing of a load breaks. By other words than those that it was opened with, it is
/// another device that can't be had, which is told, and changes nothing.
#[test]
fn a_port_gets_another_name_under_traffic() {
    let world = World::build(Shape::TwoPort, Site::new(slow_functions(), vec![hello("hello", 0)]));
    curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap();
    let path = world.edge.lab().folder().join("edge.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let device = |text: &str| {
        let (_, port) = text.split_once("[[port]]\nname = \"lan\"\ndevice = \"").unwrap();
        port.split_once('"').unwrap().0.to_owned()
    };
    let renamed = text.replace("name = \"lan\"", "name = \"inner\"");
    let lan = device(&text);
    let other = renamed.replacen(&format!("{lan}\""), &format!("{lan},busy_budget=0\""), 1);
    assert!(renamed != text && other != renamed, "{text}");

    let mut wrk = world.edge.client.command("wrk");
    wrk.args(["-t", "1", "-c", "8", "-d", "4s", "http://hello.fn.example/"]);
    let load = world.edge.client.spawn("wrk", &mut wrk).unwrap();
    wait_until("the load to be there", SOON, || {
        world.appliance.row("services", "hello").is_ok_and(|row| row["flows"].as_u64() >= Some(8))
    })
    .unwrap();
    std::fs::write(&path, &other).unwrap();
    for command in ["reload --dry-run", "reload"] {
        let refused = world.appliance.ask(command).unwrap_err().to_string();
        assert!(
            refused.contains("exit status: 1") && refused.contains("is in use by another port"),
            "{refused}"
        );
    }
    assert_eq!(world.appliance.row("ports", "lan").unwrap()["up"], true);
    std::fs::write(&path, &renamed).unwrap();
    let told = world.appliance.ask("reload").unwrap();
    assert!(told.contains("~ port inner: name lan -> inner") && told.contains("is applied"), "{told}");
    assert!(load.exited().is_none(), "the load was over before the reload");
    assert!(load.wait(SOON).unwrap().success());
    let text = load.stdout();
    assert!(text.contains("Requests/sec") && !text.contains("Socket errors"), "{text}");
    assert_eq!(world.appliance.row("ports", "inner").unwrap()["up"], true);
    assert!(world.appliance.row("ports", "lan").is_err());
    assert_eq!(curl(&world.edge.client, "-4", "http://hello.fn.example/").unwrap().status, 200);
    world.conclude();
}
