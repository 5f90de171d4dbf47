//! Any bytes as a configuration: a checked value, or a report that can be printed and points into the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millrace_config::Config;

fuzz_target!(|bytes: &[u8]| {
    let Err(report) = Config::from_bytes("fuzz.toml", bytes) else { return };
    assert!(!report.diagnostics().is_empty());
    // Printing costs many times what reading does, and has as many ways as there are codes.
    if bytes.len() % 8 == 0 {
        assert!(!report.to_string().is_empty());
    }
});
