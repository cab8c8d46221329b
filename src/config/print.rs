//! `-T`: the configuration as it is written, file by file.

use std::fmt::Write;

use super::load::Loaded;

impl Loaded {
    /// Every file under a line with its name, as `nginx -T` prints them. A `${…}` stays as written, and passwords in
    /// URLs are masked.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for (name, text) in self.sources.iter() {
            let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
            write!(out, "# configuration file {name}:\n{text}{end}\n").expect("a String takes everything");
        }
        out
    }
}
