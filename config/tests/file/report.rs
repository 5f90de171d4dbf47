//! How a report reads, to people and to programs.

use super::*;

#[test]
fn the_report_reads_well() {
    let text = "schema_version = 1\n[site]\nname = \"here\"\n[[port]]\nname = \"wan\"\ndevice = \"eth0\"\nadresses = []\n";
    let expected = "\
config::bad_value

  × `port.device` has a value that can't be used
   ╭─[test.toml:6:10]
 5 │ name = \"wan\"
 6 │ device = \"eth0\"
   ·          ───┬──
   ·             ╰── not a device
 7 │ adresses = []
   ╰────
  help: write a PCI address such as `0000:3b:00.0`, or a vdev such as `net_af_xdp0,iface=wan`

config::unknown_key

  × there is no key `port.adresses`
   ╭─[test.toml:7:1]
 6 │ device = \"eth0\"
 7 │ adresses = []
   · ────┬───
   ·     ╰── unknown key
   ╰────
  help: did you mean `addresses`?

2 errors in test.toml
";
    assert_eq!(refused(text).to_string(), expected);
}

#[test]
fn programs_get_place_and_code() {
    let json = refused(&with("port = \"lan\"", "port = \"lam\"")).to_json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    let error = &json[0];
    assert_eq!(error["code"], "config::unknown_name");
    assert_eq!(error["severity"], "error");
    assert_eq!(error["file"], "test.toml");
    assert_eq!((&error["line"], &error["column"], &error["length"]), (&23.into(), &8.into(), &5.into()));
    assert_eq!(error["help"], "did you mean \"lan\"?");
}
