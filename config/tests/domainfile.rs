//! Files of BIER topologies: what is accepted, and what a wrong one is told.

use millrace_bier::compute::{Computed, Options};
use millrace_bier::id::{Bsl, SubDomain};
use millrace_config::domainfile::DomainFile;
use millrace_config::{Code, Report};

const DOMAIN: &str = r#"
router = [
  { name = "a", prefix = "192.0.2.1", bfr_id = 1 },
  { name = "b", prefix = "192.0.2.2", bfr_id = 2, bitstring_bits = [64, 256] },
  { name = "old", bier = false },
  { name = "c", prefix = "192.0.2.3", bfr_id = 300, bift_id = { "si 0" = 70, "si 1" = 71 } },
]
link = [
  { a = "a", b = "b" },
  { a = "b", b = "c", cost = 5, cost_back = 7 },
  { a = "a", b = "old", a_address = "10.0.0.1", b_address = "10.0.0.2" },
]
"#;

fn read(text: &str) -> Result<millrace_bier::topology::Domain, Report> {
    DomainFile::parse("domain.toml", text.as_bytes())?.domain(SubDomain(3), Bsl::B256)
}

#[test]
fn a_topology_is_a_domain_with_the_costs_and_numbers_it_says() {
    let domain = read(DOMAIN).unwrap_or_else(|report| panic!("{report}"));
    let costs: Vec<_> = domain.links().iter().map(|link| link.unwrap().costs.unwrap()).collect();
    assert_eq!(costs, [[10, 10], [5, 7], [10, 10]]);
    assert_eq!(domain.get(domain.router("old").unwrap()).bier(), None);
    let a = Computed::new(&domain, domain.router("a").unwrap(), Options::default());
    let sets: Vec<_> = a.bifts().iter().map(|bift| bift.key().si.0).collect();
    assert_eq!(sets, [0, 1]);
    let b = domain.router("b").and_then(|b| a.neighbour(b)).unwrap();
    assert_eq!(a.bifts()[1].tables()[0].rows().iter().next().map(|(neighbour, _)| neighbour), Some(b));
}

#[test]
fn one_mistake_is_one_error_at_its_place() {
    use Code::*;
    let rows: &[(&str, &str, Code, &str)] = &[
        ("name = \"b\"", "name = \"a\"", Duplicate, "\"a\""),
        ("192.0.2.2", "192.0.2.1", Duplicate, "\"192.0.2.1\""),
        ("bfr_id = 2,", "bfr_id = 1,", Duplicate, "1"),
        ("bier = false", "bier = false, bfr_id = 9", Conflict, "9"),
        ("prefix = \"192.0.2.1\", ", "", MissingKey, "{ name = \"a\", bfr_id = 1 }"),
        ("bitstring_bits = [64, 256]", "bitstring_bits = []", OutOfRange, "[]"),
        ("bitstring_bits = [64, 256]", "bitstring_bits = [65]", BadValue, "65"),
        ("\"si 1\" = 71", "\"si 1\" = 70", Duplicate, "70"),
        ("b = \"c\"", "b = \"d\"", UnknownName, "\"d\""),
        ("{ a = \"a\", b = \"b\" }", "{ a = \"a\", b = \"a\" }", Conflict, "{ a = \"a\", b = \"a\" }"),
        ("cost = 5", "cost = 0", OutOfRange, "0"),
        ("cost_back", "cost_bak", UnknownKey, "cost_bak"),
        ("10.0.0.2", "10.0.0", BadValue, "\"10.0.0\""),
        ("name = \"old\"", "nme = \"old\"", UnknownKey, "nme"),
    ];
    let mut wrong = Vec::new();
    for (from, to, code, underlined) in rows {
        assert!(DOMAIN.contains(from), "{from}");
        let text = DOMAIN.replacen(from, to, 1);
        let found: Vec<_> = match read(&text) {
            Ok(_) => Vec::new(),
            Err(report) => {
                report.diagnostics().iter().map(|d| (d.code, text[d.span.clone()].to_owned())).collect()
            }
        };
        // A name that is given twice leaves links to nobody.
        if found.first() != Some(&(*code, (*underlined).to_owned())) {
            wrong.push(format!("{from} -> {to}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_of_something_else_is_told_so() {
    let code = |bytes: &[u8]| DomainFile::parse("domain.toml", bytes).unwrap_err().diagnostics()[0].code;
    assert_eq!(code(b""), Code::Empty);
    assert_eq!(code(b"\xff"), Code::Encoding);
    assert_eq!(code(b"router = ["), Code::Syntax);
    assert_eq!(code(b"[[link]]\na = \"a\"\nb = \"b\""), Code::MissingKey);
}

/// The far ends of tunnels, and of whom packets may come.
#[test]
fn tunnels_end_at_an_address_of_their_family() {
    use millrace_config::model::TunnelKind;
    let file = |text: &str| DomainFile::parse("domain.toml", text.as_bytes()).unwrap();
    let with = DOMAIN.replacen("name = \"a\"", "name = \"a\", tunnel_address = \"2001:db8::a\"", 1);
    let known = file(&with);
    let ip = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
    let a = file(DOMAIN).addresses()[0];
    assert_eq!((known.tunnel_address(a), file(DOMAIN).tunnel_address(a)), (ip("2001:db8::a"), a));
    assert!(known.addresses().contains(&ip("2001:db8::a")) && known.addresses().contains(&ip("10.0.0.2")));
    assert!(known.takes_tunnels(TunnelKind::Udp, true).is_ok());
    let report = known.takes_tunnels(TunnelKind::Ipv6, false).unwrap_err();
    let wrong = report.diagnostics().iter().map(|one| &with[one.span.clone()]).collect::<Vec<_>>();
    assert!(!wrong.is_empty() && wrong.iter().all(|text| !text.contains(':')), "{wrong:?}");
    // Where all speak BIER there are no tunnels, save to those who stand in from further away.
    let all = with.replace("bier = false", "prefix = \"10.255.0.77\"");
    assert!(file(&all).takes_tunnels(TunnelKind::Ipv6, false).is_ok());
    assert!(file(&all).takes_tunnels(TunnelKind::Ipv6, true).is_err());
}
