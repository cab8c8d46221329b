//! Reads the command line and does what it says.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use loadtest::cli::{Cli, Command};
use loadtest::{Failure, compare, proc, report, run, stub};

fn main() -> ExitCode {
    proc::raise_open_files();
    let result = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Stub(arguments) => stub::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            // Nobody may be left to read it.
            let _ = writeln!(std::io::stderr(), "loadtest: {why}");
            ExitCode::FAILURE
        }
    }
}
