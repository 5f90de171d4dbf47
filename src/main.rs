//! The one binary: one subcommand a file, wiring only, no logic.

mod bier;
mod check;
mod completion;
mod hub;
mod orchestrate;
mod plan;
mod ports;
mod reload;
mod run;
mod schema;
mod serve;
mod show;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tables of a million entries are read at random: on small pages each look-up would wait for the page tables, too.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A userspace packet-processing appliance for bare-metal edge routers.
#[derive(Parser)]
#[command(name = "millrace", version, propagate_version = true)]
#[command(after_help = "Examples:
  millrace check edge.toml           is the configuration right?
  millrace plan -c edge.toml         who gets which core
  millrace run -c edge.toml          run the appliance
  millrace serve --help              run functions for it
  millrace show services             what is it doing?
  millrace bier compute --help       what a BIER domain makes of packets
  millrace bier ping --bits 2,66     do they arrive?
  millrace hub status                how far are contents, at which nodes?
  millrace reload                    read the configuration again

Exit codes: 0 done, 1 the thing asked for is wrong, 2 the call is wrong, 3 the system refused.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bier(bier::Args),
    Check(check::Args),
    Completion(completion::Args),
    Hub(hub::Args),
    Orchestrate(orchestrate::Args),
    Plan(plan::Args),
    Reload(reload::Args),
    Run(run::Args),
    Schema(schema::Args),
    Serve(serve::Args),
    Show(show::Args),
    Trace(trace::Args),
}

fn main() -> ExitCode {
    // One provider of cryptography for the whole process, before anybody asks for one.
    millrace_orchestrator_api::tls::install_provider();
    match Cli::parse().command {
        Command::Bier(args) => bier::run(args),
        Command::Check(args) => check::run(args),
        Command::Completion(args) => completion::run::<Cli>(args),
        Command::Hub(args) => hub::run(args),
        Command::Orchestrate(args) => orchestrate::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Run(args) => run::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Show(args) => show::run(args),
        Command::Trace(args) => trace::run(args),
    }
}
