//! The page for people at `/` of the admin port: one document, nothing loaded from elsewhere.

use std::{fmt, fmt::Write, time::SystemTime};

use jiff::Timestamp;

use super::status::{LastRefused, Serving};
use crate::observe::Gauges;

/// What the page shows.
pub(super) struct View<'a> {
    pub(super) serving: &'a Serving,
    pub(super) refused: Option<&'a LastRefused>,
    pub(super) is_draining: bool,
    /// `None` for a shard that does not answer.
    pub(super) shards: &'a [Option<Gauges>],
    pub(super) requests: u64,
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>Coregate</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } th, td { text-align: right; padding: .2em .8em; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
pre { background: #fff4f2; border: 1px solid #e0b4ac; padding: .8em; overflow: auto; }
.bad { color: #b3261e; } .dim { color: #666; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } th, td { border-color: #333; }
  pre { background: #2b1d1b; border-color: #6b3a33; } a { color: #8ab4f8; } .bad { color: #f28b82; } .dim { color: #999; } }
</style>
";

/// The HTML document.
pub(super) fn render(view: &View<'_>) -> String {
    let mut html = String::from(HEAD);
    write(&mut html, view).expect("a String takes all");
    html
}

fn write(html: &mut String, view: &View<'_>) -> fmt::Result {
    let serving = view.serving;
    writeln!(html, "<h1>Coregate <span class=\"dim\">{}</span></h1>", env!("CARGO_PKG_VERSION"))?;
    if view.is_draining {
        writeln!(html, "<p class=\"bad\">Stopping: no new connections are accepted.</p>")?;
    }
    writeln!(
        html,
        "<p>Configuration <b>{}</b> from {} serves since {}.</p>",
        serving.version,
        Escaped(&serving.source),
        at(serving.since)
    )?;
    if let Some(refused) = view.refused {
        writeln!(
            html,
            "<p class=\"bad\">The reload at {} was refused; the running configuration is unchanged.</p>\n<pre>{}</pre>",
            at(refused.at),
            Escaped(&refused.problems)
        )?;
    }
    writeln!(html, "<p>{} requests since the start.</p>", view.requests)?;
    writeln!(
        html,
        "<table>\n<tr><th>Shard<th>Connections<th>Requests in flight<th>Upstream open<th>Upstream idle<th>Configuration"
    )?;
    for (shard, gauges) in view.shards.iter().enumerate() {
        match gauges {
            Some(gauges) => writeln!(
                html,
                "<tr><td>{shard}<td>{}<td>{}<td>{}<td>{}<td>{}",
                gauges.connections,
                gauges.requests_in_flight,
                gauges.upstream_open,
                gauges.upstream_idle,
                gauges.snapshot_version
            )?,
            None => writeln!(html, "<tr><td>{shard}<td colspan=\"5\" class=\"bad\">does not answer")?,
        }
    }
    writeln!(
        html,
        "</table>\n<p><a href=\"/metrics\">metrics</a> · <a href=\"/readyz\">readiness</a> · <a href=\"/healthz\">health</a></p>"
    )
}

/// To the second, in UTC.
fn at(time: SystemTime) -> impl fmt::Display {
    Timestamp::try_from(time).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Text in HTML, in content and in quoted attributes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, problems: Option<&str>, expected: &[&str]) {
        let serving = Serving {
            version: 7,
            source: source.to_owned(),
            since: SystemTime::UNIX_EPOCH,
            certificates: Vec::new(),
        };
        let refused = problems
            .map(|problems| LastRefused { problems: problems.to_owned(), at: SystemTime::UNIX_EPOCH });
        let shards = [Some(Gauges { connections: 42, ..Gauges::default() }), None];
        let view = View {
            serving: &serving,
            refused: refused.as_ref(),
            is_draining: false,
            shards: &shards,
            requests: 5,
        };
        let html = render(&view);
        for text in expected {
            assert!(html.contains(text), "no {text} in\n{html}");
        }
        assert_eq!(problems.is_some(), html.contains("<pre>"));
        assert!(!html.contains("<script"), "{html}");
    }

    #[test]
    fn the_page_shows_what_serves_and_each_shard() {
        check(
            "config.toml",
            None,
            &[
                "Configuration <b>7</b> from config.toml serves since 1970-01-01 00:00:00 UTC.",
                "<td>0<td>42<td>",
                "<td>1<td colspan=\"5\" class=\"bad\">does not answer",
                "5 requests",
            ],
        );
    }

    #[test]
    fn what_a_file_says_is_text() {
        check(
            "<script>alert(1)</script>",
            Some("a < b & \"c\" 'd'"),
            &["&lt;script&gt;alert(1)&lt;/script&gt;", "<pre>a &lt; b &amp; &quot;c&quot; &#39;d&#39;</pre>"],
        );
    }
}
