//! What systemd is told (sd_notify(3)): datagrams to `NOTIFY_SOCKET`.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Whoever supervises this process. Nothing that is said there is answered, and nothing waits for it.
pub struct Notifier {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that the environment names; `None` where there is none. The error is for the operator.
    pub fn from_env() -> Result<Option<Self>, String> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let watchdog = watchdog(|name| env::var(name).ok(), std::process::id());
        Self::at(&address, watchdog).map(Some)
    }

    /// The one at `address`, which wants to hear [`Notifier::alive`] every `watchdog`.
    pub fn at(address: &OsStr, watchdog: Option<Duration>) -> Result<Self, String> {
        let shown = address.to_string_lossy().into_owned();
        let bad = |error: io::Error| format!("NOTIFY_SOCKET={shown}: {error}");
        let address = match shown.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(address),
        };
        let socket = UnixDatagram::unbound().map_err(bad)?;
        socket.connect_addr(&address.map_err(bad)?).map_err(bad)?;
        socket.set_nonblocking(true).map_err(bad)?;
        Ok(Self { socket, watchdog })
    }

    /// How often at least it wants to hear [`Notifier::alive`]; `None` if never.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// This process serves; `status` is for people, one line.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its configuration anew; [`Notifier::ready`] has to follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let us = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=reading the configuration"));
    }

    /// It is about to end.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// Another process is what is to be supervised from now on.
    pub fn is_now(&self, process: u32) {
        self.say(&format!("MAINPID={process}"));
    }

    fn say(&self, text: &str) {
        // A supervisor that has gone, or does not read, must not stop the gateway.
        let _ = self.socket.send(text.as_bytes());
    }
}

/// How often to say that this process is alive: twice in the time after which it is killed (sd_watchdog_enabled(3)).
fn watchdog(env: impl Fn(&str) -> Option<String>, process: u32) -> Option<Duration> {
    let us: u64 = env("WATCHDOG_USEC")?.parse().ok()?;
    let is_meant = env("WATCHDOG_PID").is_none_or(|meant| meant == process.to_string());
    (is_meant && us > 0).then(|| Duration::from_micros(us) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let check = |variables: &[(&str, &str)], expected: Option<u64>| {
            let env = |name: &str| {
                let known = variables.iter().find(|(known, _)| *known == name);
                known.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(watchdog(env, 7), expected.map(Duration::from_millis));
        };
        check(&[], None);
        check(&[("WATCHDOG_USEC", "3000000")], Some(1500));
        check(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "7")], Some(1500));
        check(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "8")], None);
        check(&[("WATCHDOG_USEC", "0")], None);
        check(&[("WATCHDOG_USEC", "soon")], None);
    }
}
