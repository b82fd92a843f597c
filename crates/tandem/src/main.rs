//! `tandem`: the one binary.

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
