//! Rules about the source itself, checked like any other behaviour.
//!
//! Paths are read from the syntax tree and resolved as the compiler would: `crate::`, `self::`, `super::`, groups,
//! renames, and modules brought in by `use` and then used inline. Tests within a file are left out, and so are macros'
//! own tokens except for the paths in them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, ItemMod, ItemUse, Macro, UseTree,
    visit::{self, Visit},
};

/// The layers, top first. A module may name modules of its own layer and of those below.
const LAYERS: [(&str, &[&str]); 5] = [
    ("SERVE", &["main", "gateway", "shard", "listener", "connection", "serve", "failure"]),
    ("TALK", &["upstream", "wire", "aggregate", "bus", "control", "cli"]),
    ("DECIDE", &["config", "snapshot", "route", "admission", "auth", "balance", "transform", "tls"]),
    ("SPEAK", &["http", "json", "template"]),
    ("GROUND", &["runtime", "observe", "clock", "limits"]),
];
const SERVE: usize = 0;
const DECIDE: usize = 2;
const SPEAK: usize = 3;

/// Modules outside the layers: documentation, and the crate root that declares them all.
const OUTSIDE: [&str; 2] = ["manual", "lib"];

/// Where the time may be read. Elsewhere it is an argument.
const TIME: [&str; 4] = ["clock", "runtime", "control", "observe"];
const CLOCKS: [&[&str]; 2] = [&["Instant", "now"], &["SystemTime", "now"]];

/// One path as it is written in a file, made absolute: `["crate", "http", "head"]`, `["std", "time"]`.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    line: usize,
    path: Vec<String>,
}

/// Every path of a file. `module` is the file's own place below the crate.
fn paths(module: &[String], text: &str) -> Result<Vec<Named>, String> {
    let file = syn::parse_file(text).map_err(|error| format!("{}: {error}", error.span().start().line))?;
    let mut reader = Reader { module: module.to_vec(), names: vec![HashMap::new()], found: Vec::new() };
    reader.learn(&file.items);
    reader.visit_file(&file);
    Ok(reader.found)
}

struct Reader {
    module: Vec<String>,
    /// What `use` brought into each open scope: name → absolute path.
    names: Vec<HashMap<String, Vec<String>>>,
    found: Vec<Named>,
}

impl Reader {
    /// Learns the names of a scope first: they may be used above the line that brings them in.
    fn learn(&mut self, items: &[syn::Item]) {
        for item in items {
            if let syn::Item::Use(item) = item
                && !is_test(&item.attrs)
            {
                self.imports(&item.tree, Vec::new(), &mut |reader, name, path, _| {
                    if let Some(scope) = reader.names.last_mut() {
                        scope.insert(name, path);
                    }
                });
            }
        }
    }

    /// Calls `each` with the local name and the absolute path of everything that `tree` brings in.
    fn imports(
        &mut self,
        tree: &UseTree,
        mut before: Vec<String>,
        each: &mut impl FnMut(&mut Self, String, Vec<String>, usize),
    ) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.imports(&path.tree, before, each);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.imports(tree, before.clone(), each);
                }
            }
            UseTree::Name(name) => self.import(before, &name.ident, &name.ident, each),
            UseTree::Rename(rename) => self.import(before, &rename.ident, &rename.rename, each),
            UseTree::Glob(glob) => {
                let line = glob.star_token.span.start().line;
                let path = self.absolute(before);
                each(self, "*".into(), path, line);
            }
        }
    }

    fn import(
        &mut self,
        mut before: Vec<String>,
        name: &syn::Ident,
        local: &syn::Ident,
        each: &mut impl FnMut(&mut Self, String, Vec<String>, usize),
    ) {
        // `use a::{self}` brings in `a`.
        let local =
            if name == "self" && local == name { before.last().cloned() } else { Some(local.to_string()) };
        if name != "self" {
            before.push(name.to_string());
        }
        let path = self.absolute(before);
        each(self, local.unwrap_or_default(), path, name.span().start().line);
    }

    /// `path` from the crate's root, or from another crate.
    fn absolute(&self, path: Vec<String>) -> Vec<String> {
        let mut base: Vec<String> = [vec!["crate".to_owned()], self.module.clone()].concat();
        let mut rest = path.as_slice();
        match rest.first().map(String::as_str) {
            Some("crate") => return path,
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            Some(name) => {
                let known = self.names.iter().rev().find_map(|scope| scope.get(name));
                return known.map_or_else(|| path.clone(), |known| [known, &rest[1..]].concat());
            }
            None => {}
        }
        base.extend_from_slice(rest);
        base
    }

    fn inside(&mut self, items: &[syn::Item], visit: impl FnOnce(&mut Self)) {
        self.names.push(HashMap::new());
        self.learn(items);
        visit(self);
        self.names.pop();
    }
}

/// Whether `attributes` say `#[cfg(test)]` or `#[test]`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test");
        is_cfg_test || attribute.path().is_ident("test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.imports(&item.tree, Vec::new(), &mut |reader, _, path, line| {
                reader.found.push(Named { line, path })
            });
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else { return };
        if !is_test(&item.attrs) {
            self.module.push(item.ident.to_string());
            self.inside(items, |reader| visit::visit_item_mod(reader, item));
            self.module.pop();
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let items: Vec<_> = block
            .stmts
            .iter()
            .filter_map(
                |statement| if let syn::Stmt::Item(item) = statement { Some(item.clone()) } else { None },
            )
            .collect();
        self.inside(&items, |reader| visit::visit_block(reader, block));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let path_absolute = self.absolute(names);
        if path_absolute.len() > 1 {
            self.found.push(Named { line, path: path_absolute });
        }
        visit::visit_path(self, path);
    }

    /// Macros hide their arguments; paths in them are found as words joined by `::`.
    fn visit_macro(&mut self, item: &'ast Macro) {
        self.visit_path(&item.path);
        let line = item.path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        let text = item.tokens.to_string().replace(" :: ", "::");
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in text.split(|c| !is_word(c)).filter(|word| word.contains("::")) {
            let path = word.trim_matches(':').split("::").map(str::to_owned).collect();
            let path = self.absolute(path);
            self.found.push(Named { line, path });
        }
    }
}

/// A module's layer, 0 on top.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, modules)| modules.contains(&module))
}

/// What is wrong with one file, a line for each.
fn check(path: &Path, text: &str) -> Vec<String> {
    let module = module_of(path);
    let top = module.first().map_or("lib", String::as_str);
    let place = |line: usize| format!("{}:{line}", path.display());
    if layer(top).is_none() && !OUTSIDE.contains(&top) {
        return vec![format!("{}: `{top}` is in no layer", path.display())];
    }
    let own = layer(top);
    let named = match paths(if top == "main" { &[] } else { &module }, text) {
        Ok(named) => named,
        Err(error) => return vec![format!("{}:{error}", path.display())],
    };
    let mut problems = Vec::new();
    for Named { line, path: named } in named {
        let other = match named.first().map(String::as_str) {
            Some("crate" | "coregate") => named.get(1).map(String::as_str),
            Some("monoio") if top != "runtime" => {
                problems.push(format!("{}: `monoio` outside of runtime", place(line)));
                None
            }
            _ => None,
        };
        if !TIME.contains(&top) && CLOCKS.iter().any(|clock| named.windows(2).any(|two| two == *clock)) {
            problems.push(format!("{}: reads the time; it is an argument here", place(line)));
        }
        let (Some(own), Some(other)) = (own, other) else { continue };
        if let Some(others) = layer(other)
            && others < own
        {
            problems.push(format!("{}: {top} names `{other}`, a layer above", place(line)));
        }
        if [DECIDE, SPEAK].contains(&own) && ["runtime", "observe"].contains(&other) {
            problems.push(format!("{}: {top} decides or speaks, and names `{other}`", place(line)));
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

/// `src/http/head.rs` → `["http", "head"]`, `src/http/mod.rs` → `["http"]`, `src/lib.rs` → `[]`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let mut module: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// Every Rust file below `folder` of the repository, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a file of the repository");
                files.push((path.strip_prefix(root).unwrap_or(&path).to_path_buf(), text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn layers_point_down() {
    let problems: Vec<_> = sources("src").iter().flat_map(|(path, text)| check(path, text)).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // Written in two parts so that this file does not find itself. A program for load may sleep, a test may not.
    let marks = [
        concat!("TO", "DO"),
        concat!("#[ig", "nore"),
        concat!("unimple", "mented!"),
        concat!("thread::", "sleep"),
    ];
    let mut problems = Vec::new();
    for (path, text) in ["src", "tests", "benches", "loadtest"].iter().flat_map(|folder| sources(folder)) {
        if path.components().any(|part| part.as_os_str() == "target") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let may_sleep = !path.starts_with("src") && !path.starts_with("tests");
            let marks = if may_sleep { &marks[..3] } else { &marks };
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                problems.push(format!("{}:{}: {mark}", path.display(), index + 1));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_module_of_the_crate_is_in_a_layer() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("the crate has a root");
    let file = syn::parse_file(&text).expect("the crate's root is Rust");
    for item in file.items {
        if let syn::Item::Mod(item) = item {
            let name = item.ident.to_string();
            assert!(layer(&name).is_some() || OUTSIDE.contains(&name.as_str()), "`{name}` is in no layer");
        }
    }
    assert_eq!(layer("serve"), Some(SERVE));
}

/// Checks the checker: `text` in `file` has exactly the problems that contain `expected`.
#[track_caller]
fn finds(file: &str, text: &str, expected: &[&str]) {
    let problems = check(Path::new(file), text);
    assert_eq!(problems.len(), expected.len(), "{text}: {problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.contains(expected), "{problem} is not about {expected}");
    }
}

#[test]
fn the_checker_sees_every_spelling_of_a_path_up() {
    for text in [
        "use crate::serve;",
        "use crate::serve::request;",
        "use crate::{http::head, serve};",
        "use crate::{http::{self, head}, serve::{self, Reply as R}};",
        "use super::serve;",
        "use super::{http, serve as s};",
        "pub(crate) use crate::serve::*;",
        "fn f() { crate::serve::request(); }",
        "fn f() { super::serve::request(); }",
        "fn f(x: &crate::serve::Reply) {}",
        "fn f() { use crate::serve as s; s::request(); }",
        "mod inner { fn f() { super::super::serve::request(); } }",
        "mod inner { use crate::serve::Reply; }",
        "impl From<crate::serve::Reply> for u8 { fn from(_: u8) -> u8 { 0 } }",
        "fn f() { let _ = format!(\"{}\", crate::serve::NAME); }",
        "#[derive(Debug)] struct A { b: Vec<Option<crate::serve::Reply>> }",
        "fn f() { match x { crate::serve::Reply::A => {} _ => {} } }",
        "fn f() -> impl Fn(crate::serve::Reply) {}",
    ] {
        finds("src/http.rs", text, &["names `serve`"]);
    }
    finds(
        "src/http/head.rs",
        "use super::super::serve;",
        &["src/http/head.rs:1: http names `serve`, a layer above"],
    );
    finds("src/http/mod.rs", "use super::serve::{self};", &["names `serve`"]);
    finds(
        "src/upstream/pool.rs",
        "\n\nuse crate as root;\nfn f() { root::shard::start(); }",
        &["src/upstream/pool.rs:4"],
    );
}

#[test]
fn the_checker_lets_paths_down_and_sideways_pass() {
    finds("src/serve.rs", "use crate::{http, route::{self, Pattern}, connection, runtime::stream};", &[]);
    finds("src/http/head.rs", "use super::framing; use crate::{limits, json, http::body};", &[]);
    finds("src/http/head.rs", "mod serve { pub fn x() {} } fn f() { let serve = 1; g(serve); }", &[]);
    finds("src/config/check.rs", "use super::{raw, serve_nothing}; fn f() { raw::serve::x(); }", &[]);
    finds(
        "src/http/head.rs",
        "//! See crate::serve.\n/// And `crate::shard`.\nfn f() { let _ = \"crate::serve\"; }",
        &[],
    );
}

#[test]
fn the_checker_leaves_tests_within_a_file_alone() {
    finds("src/http.rs", "#[cfg(test)] mod tests { use crate::serve; use std::time::Instant; }", &[]);
    finds("src/http.rs", "#[cfg(test)] use crate::serve;\n#[test] fn f() { crate::serve::x(); }", &[]);
    finds("src/http.rs", "#[cfg(unix)] mod other { use crate::serve; }", &["serve"]);
}

#[test]
fn the_checker_sees_monoio_outside_of_runtime() {
    finds("src/upstream/mod.rs", "use monoio::net::TcpStream;", &["monoio"]);
    finds("src/upstream/mod.rs", "use ::monoio as m;", &["monoio"]);
    finds("src/upstream/mod.rs", "async fn f() { monoio::time::sleep(D).await }", &["monoio"]);
    finds("src/upstream/mod.rs", "fn f() { monoio::select! { a = b => {} } }", &["monoio"]);
    finds("src/runtime/start.rs", "use monoio::net::TcpStream;", &[]);
}

#[test]
fn the_checker_sees_deciders_that_do_io_or_log() {
    finds("src/route/index.rs", "use crate::observe::counters;", &["names `observe`"]);
    finds("src/json/scan.rs", "use crate::runtime;", &["names `runtime`"]);
    finds("src/upstream/pool.rs", "use crate::{observe, runtime};", &[]);
}

#[test]
fn the_checker_sees_the_time_being_read() {
    for text in [
        "use std::time::Instant; fn f() { Instant::now(); }",
        "fn f() { std::time::Instant::now(); }",
        "use std::time::{Duration, Instant as Moment}; fn f() { Moment::now(); }",
        "use std::time; fn f() { time::SystemTime::now(); }",
        "fn f() { let f = std::time::SystemTime::now; }",
        "fn f() { assert!(std::time::Instant::now() > x); }",
    ] {
        finds("src/balance/random.rs", text, &["reads the time"]);
        finds("src/runtime/deadline.rs", text, &[]);
    }
    finds("src/balance/random.rs", "use std::time::Instant; fn f(now: Instant) { clock.now(); }", &[]);
}

#[test]
fn the_checker_wants_every_module_in_a_layer() {
    finds("src/helpers.rs", "", &["`helpers` is in no layer"]);
    finds("src/lib.rs", "pub mod serve; pub use serve::x;", &[]);
    finds("src/main.rs", "use coregate::cli; fn main() { cli::run() }", &[]);
    finds("src/manual/mod.rs", "//! See [`crate::serve`].", &[]);
}
