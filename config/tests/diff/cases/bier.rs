//! BIER.

use super::Case;

pub(super) const CASES: &[Case] = &[
    (
        "Bier.bfr_prefix",
        "bfr_prefix = \"192.0.2.1\"",
        "bfr_prefix = \"192.0.2.9\"",
        "~ bier: bfr_prefix 192.0.2.1 -> 192.0.2.9",
    ),
    (
        "Bier.count_receivers",
        "bfr_prefix = \"192.0.2.1\"",
        "bfr_prefix = \"192.0.2.1\"\ncount_receivers = true",
        "~ bier: count_receivers false -> true",
    ),
    (
        "Bier.subdomain",
        "[[bier.subdomain]]",
        "[[bier.subdomain]]\nid = 7\nbfr_id = 9\n[[bier.subdomain]]",
        "+ subdomain 7: kind bier; bitstring_bits 256; ecmp_tables 1; encapsulation ethernet; bift_id static; ttl 64; bfr_id 9",
    ),
    (
        "Bier.overlay",
        "[[bier.overlay]]",
        "[[bier.overlay]]\nsource = \"192.0.2.101\"\ngroup = \"232.1.1.1\"\nsubdomain = 0\nreceivers = \"2\"\n[[bier.overlay]]",
        "+ overlay 192.0.2.101 232.1.1.1: subdomain 0; receivers 2",
    ),
    (
        "Bier.listener",
        "[[bier.listener]]",
        "[[bier.listener]]\ngroup = \"ff3e::7\"\nports = [\"wan\"]\n[[bier.listener]]",
        "+ listener ff3e::7: ports [wan]",
    ),
    (
        "Subdomain.id",
        "id = 0\nbfr_id = 5",
        "id = 1\nbfr_id = 9\n[[bier.subdomain]]\nid = 0\nbfr_id = 5",
        "+ subdomain 1: kind bier; bitstring_bits 256; ecmp_tables 1; encapsulation ethernet; bift_id static; ttl 64; bfr_id 9",
    ),
    ("Subdomain.bfr_id", "bfr_id = 5", "bfr_id = 6", "~ subdomain 0: bfr_id 5 -> 6"),
    (
        "Subdomain.bitstring_bits",
        "bitstring_bits = 256",
        "bitstring_bits = 512",
        "~ subdomain 0: bitstring_bits 256 -> 512",
    ),
    ("Subdomain.ecmp_tables", "ecmp_tables = 2", "ecmp_tables = 4", "~ subdomain 0: ecmp_tables 2 -> 4"),
    (
        "Subdomain.encapsulation",
        "encapsulation = \"ethernet\"",
        "encapsulation = \"mpls\"",
        "~ subdomain 0: encapsulation ethernet -> mpls",
    ),
    (
        "Subdomain.bift_id",
        "\"si 0\" = 1000",
        "\"si 0\" = 999",
        "~ subdomain 0: bift_id [si 0 = 1000, si 1 = 1001] -> [si 0 = 999, si 1 = 1001]",
    ),
    ("Subdomain.ttl", "ttl = 32", "ttl = 255", "~ subdomain 0: ttl 32 -> 255"),
    (
        "Subdomain.table",
        "table = [",
        "table = [{ neighbour = \"p4\", address = \"192.0.2.4\", bfr_ids = \"1\" },",
        "+ bier-neighbour 0 p4: address 192.0.2.4; port wan; bift_id [si 0 = 1000, si 1 = 1001]; bfr_ids [1]",
    ),
    (
        "Subdomain.topology",
        "\"domain.toml\"",
        "\"other.toml\"",
        "~ subdomain 6: topology domain.toml -> other.toml",
    ),
    ("Subdomain.router", "router = \"edge\"", "router = \"ridge\"", "~ subdomain 6: router edge -> ridge"),
    (
        "BierRow.neighbour",
        "neighbour = \"p3\"",
        "neighbour = \"p4\"",
        "- bier-neighbour 0 p3: address 198.51.100.3; port lan; bift_id static; bfr_ids [3 backup p2]",
    ),
    (
        "BierRow.address",
        "address = \"198.51.100.3\"",
        "address = \"10.20.0.3\"",
        "~ bier-neighbour 0 p3: address 198.51.100.3 -> 10.20.0.3; port lan -> lan.20",
    ),
    (
        "BierRow.bfr_ids",
        "bfr_ids = \"1,2,300\"",
        "bfr_ids = \"1,2\"",
        "~ bier-neighbour 0 p2: bfr_ids [1,2,300] -> [1,2]",
    ),
    ("BierRow.backup", "backup = \"p2\", ", "", "~ bier-neighbour 0 p3: bfr_ids [3 backup p2] -> [3]"),
    (
        "BierRow.bift_id",
        "bift_id = \"static\"",
        "bift_id = { \"si 0\" = 7 }",
        "~ bier-neighbour 0 p3: bift_id static -> [si 0 = 7]",
    ),
    (
        "Overlay.source",
        "192.0.2.100",
        "192.0.2.102",
        "+ overlay 192.0.2.102 232.1.1.1: subdomain 0; receivers 1,3",
    ),
    (
        "Overlay.group",
        "232.1.1.1\"",
        "232.1.1.3\"",
        "- overlay 192.0.2.100 232.1.1.1: subdomain 0; receivers 1,3",
    ),
    (
        "Overlay.subdomain",
        "subdomain = 0\nreceivers = \"1,3\"",
        "subdomain = 3\nreceivers = \"9\"\n[[bier.subdomain]]\nid = 3\nbfr_id = 9",
        "~ overlay 192.0.2.100 232.1.1.1: subdomain 0 -> 3; receivers 1,3 -> 9",
    ),
    (
        "Overlay.receivers",
        "receivers = \"1,3\"",
        "receivers = \"1,2,3\"",
        "~ overlay 192.0.2.100 232.1.1.1: receivers 1,3 -> 1-3",
    ),
    ("Listener.group", "232.1.1.2", "232.1.1.4", "+ listener 232.1.1.4: ports [lan]"),
    (
        "Listener.ports",
        "group = \"232.1.1.2\"\nports = [\"lan\"]",
        "group = \"232.1.1.2\"\nports = [\"lan\", \"lan.20\"]",
        "~ listener 232.1.1.2: ports [lan] -> [lan, lan.20]",
    ),
];
