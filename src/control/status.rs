//! What the control thread knows about itself, for the admin port.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{Built, CertificateFacts};
use crate::observe::prometheus::{Kind, Page};

/// Written by the tasks, read by the admin port.
pub(super) struct Status {
    serving: ArcSwap<Serving>,
    refused: ArcSwapOption<LastRefused>,
    draining: AtomicBool,
    reloads: AtomicU64,
    reloads_refused: AtomicU64,
    /// Snapshots that are no longer served and still held by somebody.
    retired: AtomicU64,
    retired_dropped: AtomicU64,
}

/// The snapshot that serves.
#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) version: u64,
    pub(super) source: String,
    pub(super) since: SystemTime,
    pub(super) certificates: Vec<CertificateFacts>,
}

/// The last reload, when it failed.
pub(super) struct LastRefused {
    pub(super) problems: String,
    pub(super) at: SystemTime,
}

impl Status {
    pub(super) fn new(first: &Built) -> Self {
        Self {
            serving: ArcSwap::from_pointee(Serving::new(first)),
            refused: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            retired: AtomicU64::new(0),
            retired_dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    pub(super) fn refused(&self) -> Option<Arc<LastRefused>> {
        self.refused.load_full()
    }

    /// For a supervisor to show.
    pub(super) fn in_a_line(&self) -> String {
        let version = self.serving.load().version;
        match &*self.refused.load() {
            None => format!("configuration {version} serves"),
            Some(refused) => {
                let why = refused.problems.lines().next().unwrap_or_default();
                format!("configuration {version} serves; the last reload was refused: {why}")
            }
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A reload went well; whether it changed anything shows in the version.
    pub(super) fn reloaded(&self, built: &Built) {
        if self.serving.load().version != built.version {
            self.serving.store(Arc::new(Serving::new(built)));
        }
        self.refused.store(None);
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, problems: String) {
        self.refused.store(Some(Arc::new(LastRefused { problems, at: SystemTime::now() })));
        self.reloads_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retiring(&self, held: usize, dropped: usize) {
        self.retired.store(u64::try_from(held).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.retired_dropped.fetch_add(u64::try_from(dropped).unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn write_metrics(&self, page: &mut Page) {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let serving = self.serving();
        let help = "Version of the newest snapshot.";
        page.single("coregate_snapshot_version", Kind::Gauge, help, serving.version);
        let help = "When it began to serve, in seconds since 1970.";
        page.single("coregate_snapshot_start_time_seconds", Kind::Gauge, help, unix_seconds(serving.since));
        if !serving.certificates.is_empty() {
            let (name, help) = (
                "coregate_certificate_expiry_time_seconds",
                "When a certificate expires, in seconds since 1970.",
            );
            page.family(name, Kind::Gauge, help);
            for certificate in &serving.certificates {
                let labels = [("names", &*certificate.names), ("subject", &*certificate.subject)];
                page.sample(name, &labels, certificate.not_after);
            }
        }
        page.family("coregate_reloads_total", Kind::Counter, "Reloads of the configuration.");
        page.sample("coregate_reloads_total", &[("result", "ok")], read(&self.reloads));
        page.sample("coregate_reloads_total", &[("result", "failed")], read(&self.reloads_refused));
        let help = "Whether the last reload went well.";
        let well = u8::from(self.refused.load().is_none());
        page.single("coregate_last_reload_successful", Kind::Gauge, help, well);
        let help = "Snapshots no longer served that a request still holds.";
        page.single("coregate_snapshots_retired", Kind::Gauge, help, read(&self.retired));
        let help = "Retired snapshots that were let go.";
        page.single("coregate_snapshots_dropped_total", Kind::Counter, help, read(&self.retired_dropped));
    }
}

impl Serving {
    fn new(built: &Built) -> Self {
        Self {
            version: built.version,
            source: built.source.clone(),
            since: SystemTime::now(),
            certificates: built.certificates.clone(),
        }
    }
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
