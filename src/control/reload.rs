//! Reloads: load, check, build and store a configuration, off the shards, one at a time.

use std::{path::PathBuf, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    Notifier, Retired,
    status::Status,
    watch::{Watch, digest},
};
use crate::observe::event;

/// Loads, checks, builds and stores. When it returns `Ok`, the snapshot serves already.
pub type Build = dyn Fn(Cause) -> Result<Built, Refused> + Send + Sync;

/// Why a reload happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGHUP.
    Signal,
    /// A file, or a folder with included files, has changed.
    Files,
    /// Names of services stand for other addresses now ([`super::Follow::changed`] was given them).
    Addresses,
    /// [`super::Control::reload`].
    Asked,
}

/// A configuration that serves now.
#[derive(Clone, Default)]
pub struct Built {
    /// Of the snapshot; the same as before when nothing changed.
    pub version: u64,
    /// Where it was read, for people: the path of the main file.
    pub source: String,
    /// What it was read from, and which folders would be looked in for more.
    pub inputs: Inputs,
    /// What changed, in one line; empty when nothing did, and then nothing was stored.
    pub summary: String,
    /// What cannot change while the gateway runs, by key, and other warnings.
    pub warnings: Vec<String>,
    /// What listeners offer now; as before where nothing was stored.
    pub certificates: Vec<CertificateFacts>,
    /// The snapshot that served until now.
    pub retired: Option<Retired>,
}

/// A certificate that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Separated by commas.
    pub names: String,
    pub subject: String,
    /// Unix time, in seconds.
    pub not_after: u64,
}

/// A configuration with errors. The running one is unchanged.
#[derive(Clone, Default)]
pub struct Refused {
    /// All of them, as `coregate check` shows them.
    pub problems: String,
    pub inputs: Inputs,
    /// What serves now, where certificates were taken over nevertheless.
    pub renewed: Option<Box<Built>>,
}

/// What a configuration is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Every file that was read, or would have been if it were there.
    pub files: Vec<PathBuf>,
    /// Folders of include patterns.
    pub folders: Vec<PathBuf>,
}

/// A reload that is asked for, and where the answer goes: what changed, or the problems.
pub(super) struct Trigger {
    pub(super) cause: Cause,
    pub(super) answer: Option<oneshot::Sender<Result<String, String>>>,
}

pub(super) struct Reloader {
    build: Arc<Build>,
    status: Arc<Status>,
    retirement: mpsc::Sender<Retired>,
    watch: Option<Watch>,
    inputs: Inputs,
    /// Of the inputs as they were when they were last tried; `None` when that is not known.
    tried: Option<u64>,
    notifier: Option<Arc<Notifier>>,
}

impl Reloader {
    pub(super) fn new(
        build: Arc<Build>,
        first: Built,
        status: Arc<Status>,
        retirement: mpsc::Sender<Retired>,
        watch: bool,
        notifier: Option<Arc<Notifier>>,
    ) -> Self {
        let mut watch = watch.then(Watch::new).and_then(|watch| {
            let told = |error| event::warn("control", format_args!("files are not watched: {error}"));
            watch.map_err(told).ok()
        });
        if let Some(watch) = &mut watch {
            watch.follow(&first.inputs);
        }
        Self { build, status, retirement, watch, inputs: first.inputs, tried: None, notifier }
    }

    /// Ends when nobody can ask any more.
    pub(super) async fn run(mut self, mut triggers: mpsc::Receiver<Trigger>) {
        loop {
            let trigger = tokio::select! {
                trigger = triggers.recv() => trigger,
                () = changed(self.watch.as_ref()) => {
                    if self.is_tried().await {
                        continue;
                    }
                    Some(Trigger { cause: Cause::Files, answer: None })
                }
            };
            let Some(Trigger { cause, answer }) = trigger else { return };
            // Addresses that changed are nothing that anybody waits for.
            let notifier = self.notifier.clone().filter(|_| cause != Cause::Addresses);
            if let Some(notifier) = &notifier {
                notifier.reloading();
            }
            let outcome = self.reload(cause).await;
            if let Some(notifier) = &notifier {
                notifier.ready(&self.status.in_a_line());
            }
            if let Some(answer) = answer {
                // Fails when who asked does not wait any more.
                _ = answer.send(outcome);
            }
        }
    }

    async fn is_tried(&self) -> bool {
        self.tried.is_some() && self.tried == digest(&self.inputs).await
    }

    async fn reload(&mut self, cause: Cause) -> Result<String, String> {
        // Before the files are read: what changes while they are is then seen as a change afterwards.
        let before = digest(&self.inputs).await;
        let build = Arc::clone(&self.build);
        let result = spawn_blocking(move || build(cause)).await.unwrap_or_else(|_| {
            // The panic's own message is on standard error.
            let problems = "bug: building the snapshot panicked".to_owned();
            Err(Refused { problems, inputs: self.inputs.clone(), renewed: None })
        });
        let inputs = match &result {
            Ok(built) => &built.inputs,
            Err(refused) => &refused.inputs,
        };
        self.tried = before.filter(|_| *inputs == self.inputs);
        self.inputs.clone_from(inputs);
        if let Some(watch) = &mut self.watch {
            watch.follow(&self.inputs);
        }
        match result {
            Ok(built) => Ok(self.accept(cause, built).await),
            Err(refused) => Err(self.refuse(refused).await),
        }
    }

    async fn accept(&self, cause: Cause, mut built: Built) -> String {
        for warning in &built.warnings {
            event::warn("control", format_args!("{warning}"));
        }
        let Built { version, source, summary, .. } = &built;
        match (summary.is_empty(), cause) {
            (false, _) => {
                event::info(
                    "control",
                    format_args!("configuration {version} serves: {summary} source={source}"),
                );
            }
            // Somebody waits to see it.
            (true, Cause::Signal | Cause::Asked) => {
                event::info("control", format_args!("configuration {version} is unchanged source={source}"));
            }
            (true, Cause::Files | Cause::Addresses) => {
                event::debug("control", format_args!("configuration {version} is unchanged source={source}"));
            }
        }
        self.status.reloaded(&built);
        if let Some(retired) = built.retired.take() {
            // Fails when the control thread ends; the last holder drops it then.
            _ = self.retirement.send(retired).await;
        }
        built.summary
    }

    async fn refuse(&self, refused: Refused) -> String {
        let problems = refused.problems;
        if let Some(mut built) = refused.renewed {
            self.status.reloaded(&built);
            if let Some(retired) = built.retired.take() {
                // As above.
                _ = self.retirement.send(retired).await;
            }
        }
        event::error(
            "control",
            format_args!("reload refused\n{}; the running configuration is unchanged", problems.trim_end()),
        );
        self.status.refuse(problems.clone());
        problems
    }
}

async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// A reloader over a file and a folder, which are removed at the end.
    struct Setting {
        reloader: Reloader,
        root: PathBuf,
    }

    impl Setting {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("coregate-reload-{name}-{}", std::process::id()));
            let inputs = Inputs { files: vec![root.join("config.toml")], folders: vec![root.join("conf.d")] };
            fs::create_dir_all(&inputs.folders[0]).unwrap();
            fs::write(&inputs.files[0], "good").unwrap();
            let first = Built { version: 1, inputs, ..Built::default() };
            let (retirement, _) = mpsc::channel(1);
            let status = Arc::new(Status::new(&first));
            let build = build(first.inputs.clone());
            Self { reloader: Reloader::new(build, first, status, retirement, false, None), root }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.root.join(name), text).unwrap();
        }
    }

    impl Drop for Setting {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.root);
        }
    }

    /// Includes every file of the folder; `bad` anywhere is an error.
    fn build(mut inputs: Inputs) -> Arc<Build> {
        inputs.files.truncate(1);
        Arc::new(move |_| {
            let mut inputs = inputs.clone();
            let included = fs::read_dir(&inputs.folders[0]).unwrap().map(|entry| entry.unwrap().path());
            inputs.files.extend(included);
            let is_bad = |file: &Path| fs::read_to_string(file).unwrap().contains("bad");
            match inputs.files.iter().any(|file| is_bad(file)) {
                true => Err(Refused { problems: "bad".to_owned(), inputs, renewed: None }),
                false => Ok(Built { version: 2, inputs, ..Built::default() }),
            }
        })
    }

    #[tokio::test]
    async fn the_same_content_is_not_tried_again() {
        let mut setting = Setting::new("same");
        assert!(!setting.reloader.is_tried().await, "nothing is known yet");
        assert!(setting.reloader.reload(Cause::Asked).await.is_ok());
        assert!(setting.reloader.is_tried().await);
        setting.write("config.toml", "good");
        assert!(setting.reloader.is_tried().await);
        setting.write("config.toml", "good too");
        assert!(!setting.reloader.is_tried().await);
    }

    #[tokio::test]
    async fn a_refused_content_is_not_tried_again_but_its_correction_is() {
        let mut setting = Setting::new("refused");
        setting.write("config.toml", "bad");
        assert!(setting.reloader.reload(Cause::Files).await.is_err());
        assert!(setting.reloader.is_tried().await);
        setting.write("config.toml", "good");
        assert!(!setting.reloader.is_tried().await);
    }

    #[tokio::test]
    async fn a_new_file_in_a_folder_of_includes_is_a_change() {
        let mut setting = Setting::new("folder");
        assert!(setting.reloader.reload(Cause::Asked).await.is_ok());
        setting.write("conf.d/more.toml", "bad");
        assert!(!setting.reloader.is_tried().await);
        assert!(setting.reloader.reload(Cause::Files).await.is_err());

        // The refused file is an input now, so that its correction is seen.
        assert!(setting.reloader.reload(Cause::Asked).await.is_err());
        assert!(setting.reloader.is_tried().await);
        setting.write("conf.d/more.toml", "good");
        assert!(!setting.reloader.is_tried().await);
    }
}
