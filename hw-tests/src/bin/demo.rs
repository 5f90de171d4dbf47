//! `make demo`: the main job on real input. See [`millrace_hw_tests::demo`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match millrace_hw_tests::demo::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(3)
        }
    }
}
