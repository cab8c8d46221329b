//! What can be seen to be wrong with the parts of an aggregate together: rings, places that collide, nothing to show.

use crate::{
    config::{problem::Problems, raw::Place as At},
    json::{Conflict, Depth, Name, Place},
    transform::{Errors, Plan, plan::ring},
};

/// Where a part stands in the text.
pub(super) struct Written {
    pub key: At,
    /// Its `at`, or its key without one.
    pub at: At,
}

/// Says what is wrong, and notes for each part which others it waits for. `is_decided` is whether `conflict` is written.
pub(super) fn check(plan: &mut Plan, written: &[Written], is_decided: bool, problems: &mut Problems) {
    for part in &mut plan.parts {
        part.waits_for = part.named();
    }
    let waits: Vec<_> = plan.parts.iter().map(|part| part.waits_for.clone()).collect();
    if let Some(ring) = ring(&waits) {
        let names: Vec<_> = ring.iter().map(|part| format!("`{}`", plan.parts[*part].name)).collect();
        let title = match &*names {
            [only] => format!("part {only} waits for itself"),
            _ => format!("parts wait for one another: {} and {} again", names.join(", "), names[0]),
        };
        let problem = problems.error(title);
        for part in &ring {
            problem.at(written[*part].key, "");
        }
        problem.help("one of them has to do without the answer of the next");
    }
    if plan.parts.iter().all(|part| part.place == Place::Hidden) {
        let first = written.first().map(|written| written.key);
        let problem = problems.error("no part is shown: each has at = false");
        if let Some(key) = first {
            problem.at(key, "");
        }
    }
    collisions(plan, written, is_decided, problems);
}

/// Two parts at one place, where nobody has said what that means.
fn collisions(plan: &Plan, written: &[Written], is_decided: bool, problems: &mut Problems) {
    let errors = Place::Under([Name::new("errors")].into());
    for (index, part) in plan.parts.iter().enumerate() {
        let Place::Under(names) = &part.place else { continue };
        if plan.errors == Errors::Body && part.place == errors {
            let title = format!("part `{}` goes where errors = \"body\" tells what failed", part.name);
            problems.error(title).at(written[index].at, "write at = …");
        }
        let is_meant = plan.depth == Depth::Deep || (is_decided && plan.conflict != Conflict::Error);
        let earlier = plan.parts[..index].iter().position(|other| other.place == part.place);
        if let (Some(earlier), false) = (earlier, is_meant) {
            let shown = names.iter().map(|name| name.text()).collect::<Vec<_>>().join(".");
            let title =
                format!("parts `{}` and `{}` both go to `{shown}`", plan.parts[earlier].name, part.name);
            let help = "conflict = \"last\", \"first\" or \"array\" on the route says what becomes of them; merge = \"deep\" merges them";
            problems.error(title).at(written[index].at, "").at(written[earlier].at, "").help(help);
        }
    }
}
