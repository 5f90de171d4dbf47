//! `make bench`: what frames cost, beside peers. See [`millrace_hw_tests::bench`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use millrace_hw_tests::bench::{BenchOptions, run};

/// Tables of a million entries are read at random: on small pages each look-up would wait for the page tables, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures what frames cost, beside peers on the same core, and writes the figures to a file.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds, of which medians are taken (at least 3)
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Frames per measurement
    #[arg(long, default_value_t = 2_000_000)]
    frames: u64,
    /// Bytes of the file that hub distributes
    #[arg(long, default_value_t = 100_000_000)]
    file_bytes: usize,
    /// Only entries whose names begin so, such as node.dns
    #[arg(long, default_value = "")]
    only: String,
    /// Where the report goes
    #[arg(long, default_value = "target/bench/report.json")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { rounds, frames, file_bytes, only, out } = Arguments::parse();
    let options = BenchOptions { rounds, frames, file_bytes, only };
    let outcome = run(&options).and_then(|report| {
        report.write(&out)?;
        Ok(report)
    });
    match outcome {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(3)
        }
    }
}
