//! BIER frames before witnesses that nobody here wrote: what our emitter and our workers send says to them what it was meant
//! to say, field by field, and what they write says the same to us.
//!
//! - Debian 13's tshark, in the folder that `make trixie` makes. Its dissector hangs on the nibble 5 behind an MPLS label, so
//!   for it frames without MPLS get that nibble (receivers have to ignore it there: RFC 8296 section 2.2.2).
//! - scapy, with what is wrong in it put right (see `scapy.py`).
//!
//! `MILLRACE_WITNESS_SEED` plays the values of another run again.

mod frames;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::frames as ip;
use crate::common::random::Random;
use frames::{ETHERNET, Inner, Said, hex, read};

/// Frames of which each is to be read: all lengths, carriages and payloads.
fn frames() -> Vec<(Vec<u8>, Said)> {
    let given = std::env::var("MILLRACE_WITNESS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(0x0b1e_5eed);
    println!("MILLRACE_WITNESS_SEED={seed}");
    let mut random = Random(seed);
    let mut all = frames::emitted(&mut random);
    all.extend(frames::copied(&mut random));
    all.extend(frames::imposed(&mut random));
    all
}

/// All lines that aren't what they should be, the first few of them, by column.
fn assert_read(readings: &[Vec<String>], meant: &[(Vec<u8>, Said)]) {
    assert_eq!(readings.len(), meant.len(), "every frame was read");
    for (at, (reading, (frame, said))) in readings.iter().zip(meant).enumerate() {
        assert_eq!(reading, &said.columns(), "frame {at}: {}", hex(frame));
    }
    println!("{} frames read as they were meant", meant.len());
}

/// Runs a witness with `input` and returns what it says.
fn ask(command: &mut Command, input: &[u8], hint: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may speak before it has heard all. One that ends early says why on its own.
        scope.spawn(move || _ = stdin.write_all(input));
        child.wait_with_output().unwrap()
    });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}\n{hint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A capture file with these Ethernet frames (draft-ietf-opsawg-pcap).
fn capture<'a>(frames: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 << 16 | 4, 0, 0, 65_535, 1] {
        file.extend(word.to_be_bytes());
    }
    for (second, frame) in (0_u32..).zip(frames) {
        for word in [second, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_be_bytes());
        }
        file.extend(frame);
    }
    file
}

/// The fields of [`Said::columns`] as tshark calls them; where there are several, one of them is there.
const FIELDS: [&[&str]; 21] = [
    &["eth.dst"],
    &["eth.src"],
    &["eth.type"],
    &["mpls.label"],
    &["mpls.exp"],
    &["mpls.bottom"],
    &["mpls.ttl"],
    &["bier.nibble"],
    &["bier.ver"],
    &["bier.bsl"],
    &["bier.entropy"],
    &["bier.oam"],
    &["bier.rsv"],
    &["bier.dscp"],
    &["bier.proto"],
    &["bier.bfir-id"],
    &["bier.bitstring"],
    &["ip.src", "ipv6.src"],
    &["ip.dst", "ipv6.dst"],
    &["ip.ttl", "ipv6.hlim"],
    &["udp.srcport"],
];

/// The rest of them, and what tshark has to say against the frame.
const LAST_FIELDS: [&str; 3] = ["udp.dstport", "udp.payload", "_ws.expert.message"];

fn trixie() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/trixie")
}

/// A line of tshark's as [`Said::columns`] has it.
fn columns(line: &str) -> Vec<String> {
    let mut cells = line.split('|');
    let mut next = || cells.next().unwrap_or_else(|| panic!("too few fields: {line}"));
    let mut columns: Vec<String> = FIELDS.map(|names| names.iter().map(|_| next()).collect()).to_vec();
    columns.extend(LAST_FIELDS.map(|_| next().to_owned()));
    assert_eq!(columns.pop().as_deref(), Some(""), "tshark complains: {line}");
    // Numbers are decimal, or hexadecimal.
    for column in &mut columns[2..16] {
        let first = column.split(',').next().unwrap_or_default();
        let number = match first.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => first.parse(),
        };
        *column = number.unwrap_or_else(|error| panic!("{column}: {error}: {line}")).to_string();
    }
    // The inner frame's addresses come behind the outer one's.
    let inner: Vec<String> = (0..2)
        .map(|at| match columns[at].split_once(',') {
            Some((outer, inner)) => {
                let inner = inner.to_owned();
                columns[at] = outer.to_owned();
                inner
            }
            None => String::new(),
        })
        .collect();
    columns.splice(17..17, inner);
    columns
}

#[test]
fn tshark_reads_what_we_meant() {
    let mut frames = frames();
    for (frame, said) in frames.iter_mut().filter(|(_, said)| said.ether_type == 0xab37) {
        assert_eq!(frame[ETHERNET + 4] >> 4, 0, "no nibble of ours");
        frame[ETHERNET + 4] |= 0x50;
        said.nibble = 5;
    }
    let folder = trixie();
    let hint = "`make trixie` installs it, from Debian's mirror";
    assert!(folder.join("usr/bin/tshark").exists(), "{} has no tshark: {hint}", folder.display());
    let mut command = Command::new("chroot");
    command.arg(&folder).args(["tshark", "-n", "-r", "-", "-d", "ethertype==0xab37,mpls"]);
    // Datagrams hold random bytes, which may look like anything to one who guesses.
    command.args(["-d", "udp.port==49152-65535,data", "-T", "fields", "-E", "separator=|"]);
    for field in FIELDS.iter().copied().flatten().chain(&LAST_FIELDS) {
        command.args(["-e", field]);
    }
    let said = ask(&mut command, &capture(frames.iter().map(|(frame, _)| &frame[..])), hint);
    assert_read(&said.lines().map(columns).collect::<Vec<_>>(), &frames);
}

fn scapy(what: &str, input: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/bier_witness/scapy.py");
    // Debian's Python has Debian's scapy; another that comes first in the path hasn't.
    let mut command = Command::new("/usr/bin/python3");
    command.arg("-I").arg(script).arg(what);
    ask(&mut command, input.as_bytes(), "`make setup` installs Debian's python3-scapy")
}

#[test]
fn scapy_reads_what_we_meant() {
    let frames = frames();
    let input: String = frames.iter().map(|(frame, _)| hex(frame) + "\n").collect();
    let lines = scapy("read", &input);
    let readings: Vec<_> =
        lines.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>()).collect();
    assert_read(&readings, &frames);
}

#[test]
fn we_read_what_scapy_meant() {
    let frames = frames();
    let input: String = frames.iter().map(|(_, said)| said.columns().join("|") + "\n").collect();
    let lines = scapy("write", &input);
    assert_eq!(lines.lines().count(), frames.len());
    for (line, (ours, meant)) in lines.lines().zip(&frames) {
        let frame: Vec<u8> = (0..line.len() / 2)
            .map(|at| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).expect("hexadecimal digits"))
            .collect();
        let (said, payload) = read(&frame, meant.bsl, meant.inner.clone());
        assert_eq!(&said, meant, "{line}\n{}", hex(ours));
        assert_inner(&payload, &meant.inner);
    }
    println!("{} frames of scapy's read as they were meant", frames.len());
}

/// The payload, by a reader of IP that is neither ours nor scapy's.
fn assert_inner(payload: &[u8], meant: &Inner) {
    let frame = match (&meant.macs, payload[0] >> 4) {
        (Some(_), _) => payload.to_vec(),
        (None, 4) => [&[0; 12][..], &[8, 0], payload].concat(),
        (None, _) => [&[0; 12][..], &[0x86, 0xdd], payload].concat(),
    };
    let seen = ip::read(&frame);
    if let Some(macs) = &meant.macs {
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        assert_eq!(&[text(seen.macs.1), text(seen.macs.0)], macs);
    }
    let ends = [meant.ends[0].to_owned(), meant.ends[1].to_owned()];
    assert_eq!(([seen.from.0, seen.to.0], [seen.from.1, seen.to.1]), (ends, meant.ports));
    assert_eq!((seen.hop_limit, &seen.data), (meant.hop_limit, &meant.data));
}
