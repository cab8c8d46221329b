//! Arguments → configuration → shards → wait for a signal.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
};

use clap::{Parser, Subcommand};
use coregate::{
    Gateway, Options, Source, StartError,
    cli::{
        self,
        accounts::{KeysCommand, Mint, UserCommand},
    },
    control::Signal,
    runtime::DriverUsed,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An API gateway: one shard per core, routes from a lock-free snapshot.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what happens without a command, too).
    Run(Run),
    /// Check a configuration: every error at once.
    Check {
        /// Default: ./config.toml, then /etc/coregate/config.toml.
        config: Option<PathBuf>,
        /// Print the configuration as well, secrets left out.
        #[arg(short = 'T')]
        print: bool,
    },
    /// Add, list and change the users of an issuer, and end their sessions.
    User(UserCommand),
    /// List, rotate and import the keys of an issuer.
    Keys(KeysCommand),
    /// Make tokens, and look into them.
    #[command(subcommand)]
    Token(Token),
}

#[derive(Subcommand)]
enum Token {
    /// Print a token that an issuer of ours signed.
    Mint(Mint),
    /// Show what the token on standard input says, without verifying anything.
    Inspect,
}

#[derive(clap::Args)]
struct Run {
    /// Default: ./config.toml, then /etc/coregate/config.toml.
    config: Option<PathBuf>,
    /// Check the configuration, print it with secrets left out, and exit.
    #[arg(short = 'T')]
    print: bool,
    /// Check the configuration and exit.
    #[arg(short = 't')]
    test: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Check { config, print }) => ExitCode::from(cli::check::check(config.as_deref(), print)),
        Some(Command::User(command)) => ExitCode::from(cli::accounts::user(command)),
        Some(Command::Keys(command)) => ExitCode::from(cli::accounts::keys(command)),
        Some(Command::Token(Token::Mint(command))) => ExitCode::from(cli::accounts::mint(command)),
        Some(Command::Token(Token::Inspect)) => ExitCode::from(cli::accounts::inspect()),
        Some(Command::Run(run)) => serve(&run),
        None => serve(&arguments.run),
    }
}

/// Runs until a signal. Exit codes: 0 after a stop, 1 when the configuration is wrong or connections had to be cut, 2 when the
/// system refuses something.
fn serve(run: &Run) -> ExitCode {
    if run.print || run.test {
        return ExitCode::from(cli::check::check(run.config.as_deref(), run.print));
    }
    let path = match cli::check::find(run.config.as_deref()) {
        Ok(path) => path,
        Err(remedy) => {
            say(&format!("coregate: {remedy}"));
            return ExitCode::from(2);
        }
    };
    let (signals, stops) = mpsc::sync_channel(4);
    let options = Options { signals: Some(signals), watch: true, ..Options::new(Source::File(path.clone())) };
    let gateway = match Gateway::start(options) {
        Ok(gateway) => gateway,
        Err(error) => {
            say(&format!("coregate: {error}"));
            return ExitCode::from(match error {
                StartError::Config(_) => 1,
                StartError::Bind { .. } | StartError::Driver(_) | StartError::System { .. } => 2,
            });
        }
    };
    greet(&gateway, &path);

    let stop = stops.recv().unwrap_or(Signal::Fast);
    if stop == Signal::Fast {
        gateway.stop();
        return ExitCode::SUCCESS;
    }
    say("coregate: draining; a second signal ends it at once");
    // Who waits for connections to end can be told not to.
    let impatient = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if stops.recv().is_ok() {
            std::process::exit(1);
        }
    });
    let all = gateway.drain();
    if !all {
        say("coregate: connections were still open after `drain`; they are cut");
    }
    gateway.stop();
    drop(impatient);
    ExitCode::from(u8::from(!all))
}

/// Says where the gateway listens and, for a configuration that shows how to try it, how.
fn greet(gateway: &Gateway, path: &Path) {
    let driver = match gateway.driver() {
        DriverUsed::IoUring { deferred: true } => "io_uring",
        DriverUsed::IoUring { deferred: false } => "io_uring without DEFER_TASKRUN (Linux 6.1 has it)",
        DriverUsed::Epoll => "epoll",
    };
    let shards = gateway.shards();
    let plural = if shards == 1 { "shard" } else { "shards" };
    for warning in gateway.warnings() {
        say(&format!("coregate: warning: {}", warning.trim_end()));
    }
    say(&format!(
        "coregate {}: {} with {shards} {plural} on {driver}",
        env!("CARGO_PKG_VERSION"),
        path.display()
    ));
    for (name, address) in gateway.addresses() {
        match address {
            Some(address) => say(&format!("  listening on {address}")),
            None => say(&format!("  listening on {name}")),
        }
    }
    if let Some(admin) = gateway.admin() {
        say(&format!("  admin page   http://{admin}/"));
    }
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let lines: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix(TRY)).collect();
    if !lines.is_empty() {
        say("try:");
        lines.iter().for_each(|line| say(&format!("  {}", line.trim())));
    }
}

/// Lines of a configuration that begin so are commands to try it with.
const TRY: &str = "#$ ";

fn say(text: &str) {
    // A closed stderr must not stop the gateway.
    let _ = writeln!(std::io::stderr(), "{text}");
}
