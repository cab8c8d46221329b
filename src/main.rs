//! Arguments → configuration → shards → wait for a signal.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use coregate::{
    Gateway,
    cli::{
        self,
        accounts::{KeysCommand, Mint, UserCommand},
    },
    control::Command as Asked,
    gateway::life::{self, say},
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
    /// Let the running gateway read its configuration again. Prints what changed, or why not.
    Reload(Ask),
    /// Let the running gateway start its binary anew and hand its sockets over. No connection is lost.
    Upgrade(Ask),
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
    /// Whether tokens have a good signature, by the very code a route uses.
    Verify(cli::token::Verify),
}

#[derive(clap::Args)]
struct Ask {
    /// The configuration of the gateway that is meant. Default: ./config.toml, then /etc/coregate/config.toml.
    config: Option<PathBuf>,
    /// Its `state` directory, instead.
    #[arg(long)]
    state: Option<PathBuf>,
}

fn ask(command: Asked, Ask { config, state }: Ask) -> ExitCode {
    ExitCode::from(cli::ask::ask(command, config.as_deref(), state))
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
        Some(Command::Token(Token::Verify(verify))) => ExitCode::from(cli::token::verify(&verify)),
        Some(Command::Run(run)) => serve(&run),
        Some(Command::Reload(which)) => ask(Asked::Reload, which),
        Some(Command::Upgrade(which)) => ask(Asked::Upgrade, which),
        None => serve(&arguments.run),
    }
}

/// Runs until a signal, or checks. Returns the exit code.
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
    ExitCode::from(life::live(&path, |gateway| greet(gateway, &path)))
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
