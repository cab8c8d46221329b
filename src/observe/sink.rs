//! Where the logs are written.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
};

use super::{event::Level, format::Format};

/// Where and how the logs are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `None`: no access log.
    pub access: Option<(Target, Format)>,
    pub events: Target,
    /// Events below it are not written.
    pub level: Level,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Stdout,
    Stderr,
    /// Appended to; opened again on [`super::writer::Handle::reopen`].
    File(PathBuf),
}

/// Settings with their files open.
pub(super) struct Sinks {
    pub(super) access: Option<(Sink, Format)>,
    pub(super) events: Sink,
    pub(super) level: Level,
}

impl Sinks {
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let access = match &settings.access {
            Some((target, format)) => Some((Sink::open(target)?, format.clone())),
            None => None,
        };
        Ok(Self { access, events: Sink::open(&settings.events)?, level: settings.level })
    }
}

/// One log's destination, open.
pub(super) struct Sink {
    pub(super) target: Target,
    file: File,
}

impl Sink {
    pub(super) fn open(target: &Target) -> io::Result<Self> {
        // The standard streams are written to directly: Rust's own are locked and search every block for line ends.
        let file = match target {
            Target::Stdout => File::from(io::stdout().as_fd().try_clone_to_owned()?),
            Target::Stderr => File::from(io::stderr().as_fd().try_clone_to_owned()?),
            Target::File(path) => OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?,
        };
        Ok(Self { target: target.clone(), file })
    }

    /// Writes all of `text` or returns how much was not.
    pub(super) fn write(&mut self, text: &[u8]) -> usize {
        let mut rest = text;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => break,
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                Err(_) => break,
            }
        }
        rest.len()
    }

    /// A terminal or pipe that another process made non-blocking: waits until it takes more.
    fn wait(&self) {
        let mut ready = [rustix::event::PollFd::new(&self.file, rustix::event::PollFlags::OUT)];
        _ = rustix::event::poll(&mut ready, None);
    }
}
