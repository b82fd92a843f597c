//! `tandem-tapped`: `main.rs` once more, in a build that can write down what it receives, decrypted. For
//! `tandem-lab --privacy` only.

mod bench;
mod cli;
mod client;
mod commands;
mod demo;
mod output;
mod session;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;

fn main() -> ExitCode {
    tandem_node::warn_if_tapped();
    let cli = Cli::parse();
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(code) => code.into(),
        Err(problem) => {
            output::problem(&problem, json);
            output::exit_of(&problem).into()
        }
    }
}
