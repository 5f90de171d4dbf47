//! The same zone file here and in Knot DNS, and the same queries to both: the answers say the same.
//!
//! The reference server runs in a network namespace with nothing but a loopback device, and so does the test's other half:
//! this binary, started once more. Needs root and `knotd` (Debian: `knot`).

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use common::names_of;
use domain::base::Message;
use domain::base::name::ToName;
use domain::base::rdata::ComposeRecordData;
use domain::rdata::AllRecordData;
use millrace_fastpath::dns::{Context, Outcome, Readiness, Role, Transport, respond};
use millrace_fastpath::tables::Names;

/// One of everything that a zone file can have here.
const ZONE: &str = r#"$TTL 60
@        SOA   ns1 ops 7 3600 600 604800 5
@        NS    ns1
@        MX    10 mail
@        CAA   0 issue "ca.example"
ns1      A     192.0.2.53
ns1      AAAA  2001:db8::53
mail     A     192.0.2.25
www 30   A     192.0.2.80
www 30   A     192.0.2.81
www      TXT   "a text" "of two strings"
www      HTTPS 1 . alpn="h2,h3" port=8443
_x._tcp  SRV   0 5 443 www
a.b.deep A     192.0.2.1
alias    CNAME www
ALIAS2   CNAME alias
outside  CNAME www.example.org.
dangling CNAME nothing
to-ent   CNAME b.deep
to-wild  CNAME some.name.wild
*.wild   A     192.0.2.90
*.wild   TXT   "wild"
here.wild TXT  "not wild"
x.*.wild A     192.0.2.91
a.*.entwild A  192.0.2.92
*.wa     CNAME www
*.wd     CNAME q.wild
esc\.aped\000x A 192.0.2.99
raw      TYPE65280 \# 3 0102ff
"#;

const KNOT: &str = "server:
  listen: 127.0.0.1@5300
  rundir: FOLDER
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: FOLDER
log:
  - target: stderr
    any: info
zone:
  - domain: fn.example.
    storage: FOLDER
    file: fn.zone
    zonefile-sync: -1
    journal-content: none
";

/// Set in the half that runs in the namespace, to the folder of the zone.
const CHILD: &str = "MILLRACE_TEST_KNOT";

#[test]
fn answers_say_what_those_of_knot_say() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return compare(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let binary = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .arg("--net")
        .arg(binary)
        .args(["--exact", "answers_say_what_those_of_knot_say", "--nocapture"])
        .env(CHILD, folder.path())
        .status()
        .expect("unshare can be run");
    assert!(status.success(), "in the namespace: {status}");
}

fn compare(folder: &Path) {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip can be run");
    assert!(up.success());
    let names = names_of(ZONE, folder);
    let knot = Knot::start(folder);
    let mut compared = 0;
    for name in names_to_ask() {
        for kind in [1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 257, 65_280] {
            let query = query(&name, kind);
            let (theirs, ours) = (read(&knot.ask(&query)), read(&answer(&names, &query)));
            assert_eq!(ours, theirs, "{} {kind}", String::from_utf8_lossy(&name));
            compared += 1;
        }
    }
    assert!(compared > 600, "{compared} queries");
}

fn answer(names: &Names, query: &[u8]) -> Vec<u8> {
    let mut message = query.to_vec();
    message.resize(1232, 0);
    let context = Context {
        names,
        role: Role::Authoritative,
        transport: Transport::Udp,
        cookies: None,
        readiness: |_| Readiness::Warm,
    };
    match respond(&mut message, query.len(), &context) {
        Outcome::Answer(answer) => message[..answer.len].to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Every owner, what is around it, and what is below it.
fn names_to_ask() -> BTreeSet<Vec<u8>> {
    let owners = ZONE.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let mut names = BTreeSet::new();
    for owner in owners.filter(|owner| !owner.contains('\\')) {
        let mut wire = Vec::new();
        for label in owner.split('.').filter(|label| *label != "@") {
            wire.push(label.len() as u8);
            wire.extend(label.as_bytes());
        }
        wire.extend(b"\x02fn\x07eXample\0");
        let mut rest = &wire[..];
        while rest.len() > b"\x07example\0".len() {
            for below in [&b""[..], b"\x02no", b"\x01a\x02no", b"\x01*"] {
                names.insert([below, rest].concat());
            }
            rest = &rest[usize::from(rest[0]) + 1..];
        }
    }
    names.insert(b"\x0aesc.aped\0x\x02fn\x07example\0".to_vec());
    names.insert(b"\x07example\0".to_vec());
    names.insert(b"\x04some\x03org\0".to_vec());
    names
}

/// With EDNS, so that everything fits.
fn query(name: &[u8], kind: u16) -> Vec<u8> {
    let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    [b"\x12\x34\0\0\0\x01\0\0\0\0\0\x01", name, &kind.to_be_bytes(), &[0, 1], &opt].concat()
}

/// Owner, type, TTL and data.
type Rr = (Vec<u8>, u16, u32, Vec<u8>);

/// What an answer says.
#[derive(Debug, PartialEq)]
struct Says {
    rcode: u8,
    /// AA, TC, RA.
    flags: [bool; 3],
    answers: BTreeSet<Rr>,
    /// The SOA alone: servers differ in whether they name the zone's servers beside an answer.
    authorities: BTreeSet<Rr>,
}

fn read(message: &[u8]) -> Says {
    let message = Message::from_octets(message).unwrap();
    let section = |section: domain::base::message::RecordSection<'_, &[u8]>| -> BTreeSet<Rr> {
        let records = section.map(|record| {
            let record = record.unwrap().into_record::<AllRecordData<_, _>>().unwrap().unwrap();
            let (mut owner, mut data) = (Vec::new(), Vec::new());
            record.owner().compose(&mut owner).unwrap();
            record.data().compose_rdata(&mut data).unwrap();
            let kind = record.rtype().to_int();
            // Names may come back in the question's spelling, also those in data.
            if [2, 5, 6, 15, 33].contains(&kind) {
                data.make_ascii_lowercase();
            }
            (owner.to_ascii_lowercase(), kind, record.ttl().as_secs(), data)
        });
        records.collect()
    };
    let header = message.header();
    let mut authorities = section(message.authority().unwrap());
    authorities.retain(|(_, kind, ..)| *kind == 6);
    Says {
        rcode: header.rcode().to_int(),
        flags: [header.aa(), header.tc(), header.ra()],
        answers: section(message.answer().unwrap()),
        authorities,
    }
}

/// The reference server; it ends with this.
struct Knot {
    process: Child,
    socket: UdpSocket,
    /// Kept open: it writes its log there.
    _log: BufReader<ChildStderr>,
}

impl Knot {
    fn start(folder: &Path) -> Self {
        let conf = folder.join("knot.conf");
        std::fs::write(&conf, KNOT.replace("FOLDER", &folder.display().to_string())).unwrap();
        let mut command = Command::new("knotd");
        command.arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("knotd is installed");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let mut said = String::new();
        // Its sockets are bound before it loads a zone.
        while !said.contains("loaded, serial") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "knotd ended: {said}");
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.1:5300").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { process, socket, _log: log }
    }

    fn ask(&self, query: &[u8]) -> Vec<u8> {
        self.socket.send(query).unwrap();
        let mut answer = vec![0; 4096];
        let len = self.socket.recv(&mut answer).expect("knotd answers");
        answer.truncate(len);
        answer
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        // It is this test's own process, and nothing of it is needed any more.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
