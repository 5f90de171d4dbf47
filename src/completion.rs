//! `millrace completion`: what a shell needs to complete our command lines.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a shell's completion script.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace completion bash > /usr/share/bash-completion/completions/millrace
  millrace completion zsh > \"${fpath[1]}/_millrace\"")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Runs `millrace completion` for the command line of `C`.
pub(crate) fn run<C: CommandFactory>(args: Args) -> ExitCode {
    clap_complete::generate(args.shell, &mut C::command(), "millrace", &mut std::io::stdout().lock());
    ExitCode::SUCCESS
}
