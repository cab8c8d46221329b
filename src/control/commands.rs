//! The command socket: what `coregate reload` and `coregate upgrade` ask of a running gateway.
//!
//! A Unix socket in `state`, which only the gateway's own user may open: unlike the admin port it may be asked to change something.
//! A question is one line, the answer a line with an exit code and then a text for people.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    Cause,
    reload::Trigger,
    signals::{Signal, Signals},
};
use crate::observe::event;

/// Connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 16;
const QUESTION_BYTES_MAX: u64 = 64;
const QUESTION_PATIENCE: Duration = Duration::from_secs(5);
/// After a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Reload,
    Upgrade,
}

impl Command {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
        }
    }
}

/// Where the socket is, below `state`.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// Where the number of the process is, below `state`.
pub fn pid_path(state: &Path) -> PathBuf {
    state.join("coregate.pid")
}

/// Who is asked.
#[derive(Clone)]
pub(super) struct Respondents {
    pub(super) triggers: mpsc::Sender<Trigger>,
    pub(super) signals: Signals,
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: UnixListener, respondents: Respondents) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let respondents = respondents.clone();
                connections.spawn(async move {
                    // What goes wrong here is the asker's concern.
                    _ = answer(stream, respondents).await;
                    drop(permit);
                });
            }
            Err(error) => {
                event::warn("control", format_args!("command socket: {error}"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: UnixStream, respondents: Respondents) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut question = String::new();
    let mut reader = BufReader::new(reader.take(QUESTION_BYTES_MAX));
    timeout(QUESTION_PATIENCE, reader.read_line(&mut question)).await??;
    let question = question.trim_end();
    let answered =
        match [Command::Reload, Command::Upgrade].into_iter().find(|known| known.word() == question) {
            Some(Command::Reload) => reload(&respondents).await,
            Some(Command::Upgrade) => upgrade(&respondents).await,
            None => Err(format!("`{question}` is not known to the process that runs")),
        };
    let (code, text) = match answered {
        Ok(text) => (0, text),
        Err(text) => (1, text),
    };
    writer.write_all(format!("{code}\n{text}").as_bytes()).await
}

async fn reload(respondents: &Respondents) -> Result<String, String> {
    let (answer, answered) = oneshot::channel();
    let trigger = Trigger { cause: Cause::Asked, answer: Some(answer) };
    respondents.triggers.send(trigger).await.map_err(|_| ENDS.to_owned())?;
    let summary = answered.await.map_err(|_| ENDS.to_owned())??;
    Ok(if summary.is_empty() { "nothing changed".to_owned() } else { summary })
}

async fn upgrade(respondents: &Respondents) -> Result<String, String> {
    let (answer, answered) = oneshot::channel();
    (respondents.signals)(Signal::Upgrade(Some(answer)));
    answered.await.map_err(|_| ENDS.to_owned())?
}

const ENDS: &str = "the gateway is about to end";
