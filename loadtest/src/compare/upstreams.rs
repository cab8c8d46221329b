//! The upstreams of a comparison: processes of their own, so that their CPU time is known apart.

use std::env;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::scenario::{Kind, Scenario};
use super::server;
use crate::{Failure, proc};

/// How many addresses the servers balance over.
const COUNT: usize = 4;

pub struct Upstreams {
    pub addresses: Vec<SocketAddr>,
    response_bytes: usize,
    /// Their answers are JSON objects.
    json: bool,
    core: usize,
    /// One for all addresses; where one of them is to be killed, another for the last.
    children: Vec<Child>,
}

impl Upstreams {
    /// Starts them on `core` and waits until they listen.
    pub fn start(scenario: &Scenario, core: usize) -> Result<Self, Failure> {
        let addresses: Vec<SocketAddr> =
            (0..COUNT).map(|_| server::free_address()).collect::<Result<_, _>>()?;
        let mut upstreams = Self {
            addresses,
            response_bytes: scenario.response_bytes,
            json: scenario.load.parts.is_some(),
            core,
            children: Vec::new(),
        };
        let together = if scenario.load.kind == Kind::Killed { COUNT - 1 } else { COUNT };
        upstreams.children.push(upstreams.spawn(0, together)?);
        if together < COUNT {
            upstreams.children.push(upstreams.spawn(together, COUNT)?);
        }
        for _ in 0..500 {
            if upstreams.addresses.iter().all(|address| TcpStream::connect(address).is_ok()) {
                return Ok(upstreams);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(Failure("the upstreams do not listen".to_owned()))
    }

    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// Kills the last address's process as a crash would.
    pub fn kill_last(&mut self) -> Result<(), Failure> {
        if let Some(mut last) = self.children.pop() {
            let ended = last.kill().and_then(|()| last.wait());
            ended.map_err(|error| Failure(format!("an upstream cannot be killed: {error}")))?;
        }
        Ok(())
    }

    /// Starts the process that was killed. It does not wait until it listens: the load goes on.
    pub fn revive_last(&mut self) -> Result<(), Failure> {
        let child = self.spawn(COUNT - 1, COUNT)?;
        self.children.push(child);
        Ok(())
    }

    fn spawn(&self, from: usize, to: usize) -> Result<Child, Failure> {
        let start = || {
            let mut command = Command::new(env::current_exe()?);
            command.args(["stub", "--size", &self.response_bytes.to_string()]).stdout(Stdio::null());
            command.args(self.json.then_some("--json")).process_group(0);
            for address in &self.addresses[from..to] {
                command.args(["--listen", &address.to_string()]);
            }
            proc::on_core(self.core, || command.spawn())?
        };
        start().map_err(|error: std::io::Error| Failure(format!("the upstreams do not start: {error}")))
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.children.iter_mut().for_each(server::end);
    }
}
