//! NRL's NORM library, as it comes with Debian, receives what a session sends: over multicast, with losses of all and
//! of each, repaired by parity and by name. Its NACKs and acknowledgements are what the session goes by.
//!
//! Receivers and sender (the example `norm_send`) share a network namespace of their own. As root; needs `libnorm-dev`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Sender and receivers in one namespace: arguments are the folder, the two programs, the number of receivers, the percentage
/// that each of them drops, the sender's rate, which of its packets it drops itself, and perhaps `--late`: then there is one
/// receiver more, which is started once it is given up.
const SCRIPT: &str = r#"
set -eu
folder=$1 sender=$2 receiver=$3 count=$4 loss=$5 rate=$6 drop=$7 late=$8
ip link set lo up multicast on
ip address add 10.9.0.1/24 dev lo
ip route add 239.0.0.0/8 dev lo src 10.9.0.1
files=$(ls "$folder/source" | wc -l)
pids= nodes=
trap 'kill $pids' EXIT
start() {
    mkdir "$folder/$1"
    "$receiver" 239.1.1.1 6003 lo "$1" "$files" "$folder/$1" "$loss" unicast >"$folder/$1.out" 2>&1 &
    pids="$pids $!"
}
for node in $(seq 2 $((count + 1))); do
    mkfifo "$folder/$node.out"
    start "$node"
    nodes="$nodes,$node@10.9.0.1"
done
absent=
[ -z "$late" ] || absent=$((count + 2)) nodes="$nodes,$((count + 2))@10.9.0.1"
# Each says when it listens; what it says later is read, too, so that it never waits for us.
for node in $(seq 2 $((count + 1))); do
    exec 3<"$folder/$node.out"
    read -r line <&3
    [ "$line" = ready ]
    cat <&3 >"$folder/$node.log" &
    exec 3<&-
done
mkfifo "$folder/sender.out"
timeout 60 "$sender" $late 239.1.1.1 6003 10.9.0.1 "$rate" "$drop" "${nodes#,}" "$folder"/source/* >"$folder/sender.out" &
sending=$!
while read -r line; do
    echo "$line"
    case "$line" in
        Failed*) [ -z "$absent" ] || start "$absent"; absent= ;;
    esac
done <"$folder/sender.out"
wait $sending
# A machine that is busy loses more than was meant, at the receivers' sockets.
awk '/^Udp: [0-9]/ { print "overrun " $6 }' /proc/net/snmp
"#;

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("norm_peer-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("source")).unwrap();
    folder
}

fn receiver(folder: &Path) -> PathBuf {
    let program = folder.join("receiver");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/norm_peer/receiver.cpp");
    let built =
        Command::new("g++").arg("-O2").arg("-o").arg(&program).arg(source).arg("-lnorm").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

/// The example's binary lies beside the folder of this test's.
fn sender() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/norm_send")
}

struct Case {
    name: &'static str,
    sizes: &'static [usize],
    receivers: usize,
    /// Percentage that each receiver drops,
    loss: u32,
    /// and which packets the sender does.
    drop: u32,
    /// Whether the last one comes when it is given up.
    late: bool,
}

/// Sends files of these sizes, checks what every receiver has, and returns what the sender printed.
fn transfer(case: &Case) -> String {
    let folder = folder(case.name);
    let bytes = |size: usize, seed: u64| -> Vec<u8> {
        let mut state = seed;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..size).map(step).collect()
    };
    for (at, size) in case.sizes.iter().enumerate() {
        std::fs::write(folder.join(format!("source/{at}.bin")), bytes(*size, at as u64 + 1)).unwrap();
    }
    let (punctual, late) = if case.late { (case.receivers - 1, "--late") } else { (case.receivers, "") };
    let numbers = [punctual.to_string(), case.loss.to_string(), "20000000".into(), case.drop.to_string()];
    let Output { status, stdout, stderr } = Command::new("unshare")
        .args(["--net", "sh", "-c", SCRIPT, "norm_peer"])
        .args([folder.clone(), sender(), receiver(&folder)])
        .args(numbers)
        .arg(late)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{out}\n{err}");
    for node in 2..2 + case.receivers {
        for (at, size) in case.sizes.iter().enumerate() {
            let received = std::fs::read(folder.join(format!("{node}/{at}.bin"))).unwrap();
            assert!(received == bytes(*size, at as u64 + 1), "node {node}, file {at} differs; {out}");
        }
    }
    // Kept where it fails.
    std::fs::remove_dir_all(folder).unwrap();
    out
}

/// The number after a word of the sender's output.
fn figure(out: &str, word: &str) -> u64 {
    let after = out.split_once(word).unwrap_or_else(|| panic!("no {word} in {out}")).1;
    after.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn nrl_receivers_complete_files_of_every_cut() {
    // One byte; one segment; blocks of different lengths, so that some are shortened; a whole last block.
    let sizes = &[1, 1400, 1401, 1400 * 65, 1400 * 130 + 7, 1400 * 128];
    let out = transfer(&Case { name: "cuts", sizes, receivers: 2, loss: 0, drop: 5, late: false });
    assert_eq!(out.matches("Complete").count(), 12, "{out}");
    assert!(!out.contains("Malformed") && !out.contains("NoSuchSegment"), "{out}");
}

#[test]
fn nrl_receivers_are_repaired_by_parity_and_a_shared_loss_costs_one_repair() {
    let out =
        transfer(&Case { name: "shared", sizes: &[3_000_000], receivers: 3, loss: 0, drop: 20, late: false });
    let (dropped, repairs) = (figure(&out, "dropped"), figure(&out, "repair_packets:"));
    assert!(dropped >= 100 && figure(&out, "heard") > 0, "{out}");
    // Each repair serves all three, so there are hardly more than losses, infos and such aside.
    assert!(repairs * 100 <= (dropped + figure(&out, "overrun")) * 115, "{out}");
}

#[test]
fn nrl_receivers_are_repaired_through_heavy_loss() {
    let out =
        transfer(&Case { name: "heavy", sizes: &[1_500_000], receivers: 2, loss: 30, drop: 4, late: false });
    assert!(out.contains("Finished"), "{out}");
    assert!(!out.contains("Failed") && !out.contains("Malformed"), "{out}");
}

/// It was never heard of, and says nothing by itself.
#[test]
fn an_nrl_receiver_that_starts_after_it_was_given_up_is_found_and_completes() {
    let sizes = &[300_000, 1400];
    let out = transfer(&Case { name: "returned", sizes, receivers: 2, loss: 0, drop: 10, late: true });
    let (failed, returned) = (out.find("Failed").unwrap(), out.find("Returned").expect(&out));
    assert!(failed < returned && out[returned..].matches("Complete").count() == 2, "{out}");
}
