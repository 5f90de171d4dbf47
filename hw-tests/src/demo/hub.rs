//! The content hub: a file over a WAN by BIER once, to three nodes of which one loses some, and what UFTP takes for the same.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Promises;
use crate::bench;
use crate::content::{Content, Link, NODES};
use crate::edge::Driver;
use crate::lab::{LabError, command, unreadable};

/// Bytes of the file.
const SIZE: usize = 8_000_000;
/// To the hub, and to its site.
const BITS_PER_SECOND: u64 = 50_000_000;
/// What of a thousand datagrams the node in the middle loses.
const PER_MILLE: u32 = 50;
const LOSES: usize = 1;
const DONE_MAX: Duration = Duration::from_secs(180);
/// Repairs of a leg beside what it lost: the promise is 1.05, and a small file's figures scatter by a few packets.
const REPAIR_OVER_LOSS_MAX: f64 = 1.1;

/// Sends the file both ways, and counts; the figures for scripts.
pub(super) fn show(binary: &Path, driver: Driver, promises: &mut Promises) -> Result<Value, LabError> {
    println!(
        "the content hub: {SIZE} bytes over the WAN by BIER, on to {NODES} nodes behind an access switch; {} % lost at one",
        f64::from(PER_MILLE) / 10.0
    );
    let mut content = Content::new(binary, driver, BITS_PER_SECOND)?;
    content.lose(LOSES, PER_MILLE)?;
    content.receive()?;
    let text: String = (0..SIZE.div_ceil(8)).map(|line| format!("{line:07}\n")).collect();
    let file = content.lab().write("image.bin", &text[..SIZE])?;
    let before = content.links()?;
    let begun = Instant::now();
    let source = content.send(&file, BITS_PER_SECOND)?;
    let sent = source.wait(DONE_MAX)?;
    promises.expect(sent.success(), format!("the source ended with {sent}: the hub hasn't everything"));
    let status = content.wait_until_done(DONE_MAX)?;
    let seconds = begun.elapsed().as_secs_f64();
    let links = content.links()?;
    let lost = content.lost(LOSES)?;

    let wanted = digest(&file)?;
    let mut complete = 0;
    for node in 0..NODES {
        let got = digest(&content.folder(node).join("image.bin"));
        let same = got.as_ref().is_ok_and(|got| *got == wanted);
        complete += usize::from(same);
        promises.expect(same, format!("node {} hasn't what was sent: {got:?}", node + 1));
    }
    println!("  {complete} of {NODES} nodes have it, SHA-256 {}…, after {seconds:.2} s", &wanted[..16]);

    let fates = content.conclude();
    let explained = fates.as_ref().is_ok_and(|all| all.iter().all(|one| one.unexplained() == 0));
    promises.expect(explained, format!("an appliance lost a frame, or didn't end cleanly: {fates:?}"));
    // Labs take turns.
    let uftp = bench::by_uftp(SIZE, [0, PER_MILLE, 0])?;
    let down = |at: usize| links[at].down - before[at].down;
    let leg = |node: usize| legs(&status, node);
    println!("  link         bytes    first copies   repairs      by UFTP");
    println!("  wan      {:>9}               -         -            -", down(0));
    let trunk = &status["sites"][0]["trunk"];
    let of = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    println!(
        "  trunk    {:>9}       {:>9} {:>9}    {:>9}",
        down(1),
        of(trunk, "first_bytes"),
        of(trunk, "repair_bytes"),
        uftp.trunk
    );
    for node in 0..NODES {
        println!(
            "  leg{}     {:>9}       {:>9} {:>9}    {:>9}",
            node + 1,
            down(2 + node),
            of(leg(node), "first_bytes"),
            of(leg(node), "repair_bytes"),
            uftp.legs[node]
        );
    }
    println!(
        "  UFTP's rate is {} Mb/s and not {}; what links carry for the loss is to be compared",
        100,
        BITS_PER_SECOND / 1_000_000
    );
    let clean: u64 = (0..NODES).filter(|node| *node != LOSES).map(|node| of(leg(node), "repair_bytes")).sum();
    promises.expect(clean == 0, format!("nodes that lost nothing were sent {clean} bytes of repairs"));
    let over = of(leg(LOSES), "repair_packets") as f64 / lost.max(1) as f64;
    promises
        .expect(lost > 0 && over <= REPAIR_OVER_LOSS_MAX, format!("{over:.3} repairs for each packet lost"));
    println!("  {lost} packets lost, {over:.3} repairs for each; none on clean legs\n");
    promises.expect(down(0) < SIZE as u64 * 23 / 20, "the WAN carried more than one copy");
    let bytes = |link: &Link| link.down;
    Ok(json!({
        "nodes": NODES,
        "complete": complete,
        "clean_leg_repair_bytes": clean,
        "repair_over_own_loss_max": over,
        "seconds": seconds,
        "links_bytes": links.iter().map(bytes).zip(before.iter().map(bytes)).map(|(now, then)| now - then).collect::<Vec<_>>(),
        "uftp": { "trunk_bytes": uftp.trunk, "leg_bytes": uftp.legs, "seconds": uftp.seconds },
    }))
}

/// What was sent to a node.
fn legs(status: &Value, node: usize) -> &Value {
    &status["sites"][0]["legs"][(node + 2).to_string()]
}

fn digest(path: &Path) -> Result<String, LabError> {
    let text = command::succeed(command::split("sha256sum").arg(path))?;
    let digest = text.split_whitespace().next().filter(|digest| digest.len() == 64);
    digest.map(str::to_owned).ok_or_else(|| unreadable("sha256sum", &text))
}
