//! `make demo`: the main job on real input. See [`millrace_hw_tests::demo`].

use std::process::ExitCode;

use millrace_hw_tests::demo;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo::run(),
        [demo::BURST_CLIENTS, server, name] => demo::burst_clients(server, name).map(|text| {
            println!("{text}");
            true
        }),
        _ => {
            eprintln!("usage: demo");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::from(3)
        }
    }
}
