//! The rules of ARCHITECTURE.md, held against the source. Each rule is a function from sources to breaches, and each
//! has a test that plants a breach and sees it found.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use finetuned::domain::method::METHODS;
use finetuned::domain::metric;

/// A source file: its path from the repository's root, and its text.
struct Source {
    path: String,
    text: String,
}

/// What breaks a rule, for people.
type Breaches = Vec<String>;

/// What the engine may use of the control plane: words and data readers, nothing that runs.
const ENGINE_MAY_USE: [&str; 6] = ["clock", "disk", "domain", "dataset", "failpoint", "gguf"];

const LONGEST_FILE: usize = 400;

/// The families of models, by `model_type`.
const FAMILIES: [&str; 9] =
    ["bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "modernbert", "resnet", "vit", "deit"];

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_engine(&self) -> bool {
        self.path.starts_with("engine/")
    }

    /// The path of the module within its crate: `["db", "embedded", "system"]`.
    fn module(&self) -> Vec<&str> {
        let inside = self.path.trim_start_matches("engine/").trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).collect()
    }

    /// The lines up to the file's own tests, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    /// The same without comments and with texts emptied.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        self.lines().map(|(i, line)| (i, code_and_texts(line).0))
    }

    /// The texts that begin and end on one line, each with its line.
    fn texts(&self) -> impl Iterator<Item = (usize, String)> {
        self.lines().flat_map(|(i, line)| code_and_texts(line).1.into_iter().map(move |text| (i, text)))
    }

    fn breach(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// A line without its comment and with its texts emptied, and these texts.
fn code_and_texts(line: &str) -> (String, Vec<String>) {
    let (mut code, mut texts, mut text, mut escaped) = (String::new(), Vec::new(), None::<String>, false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        if text.is_none() && c == '/' && characters.peek() == Some(&'/') {
            break;
        }
        match &mut text {
            Some(inside) if c != '"' || escaped => inside.push(c),
            Some(_) => {
                texts.extend(text.take());
                code.push(c);
            }
            None => {
                code.push(c);
                text = (c == '"').then(String::new);
            }
        }
        escaped = text.is_some() && c == '\\' && !escaped;
    }
    (code, texts)
}

/// Whether `code` has `word` as a word of its own.
fn says(code: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_name);
        let after = code[at + word.len()..].chars().next().is_some_and(is_name);
        !before && !after
    })
}

/// The paths below `prefix` that a line names: for `crate::a::b` under `crate::`, `a`. Groups are taken apart.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.push(name(&group[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth < 0 {
                        break;
                    }
                }
            }
            None => found.push(name(rest)),
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// The text of ARCHITECTURE.md.
fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap()
}

/// The modules of each floor, lowest first, of one program: the column of that number in the page's table. Modules on one
/// floor do not know each other.
fn floors(column: usize) -> Vec<Vec<String>> {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let cells = rows.map(|row| row.split('|').nth(column + 2).unwrap().to_owned());
    let names = |cell: String| cell.split_whitespace().map(|name| name.trim_matches('`').to_owned()).collect();
    let floors: Vec<Vec<String>> = cells.map(names).collect();
    assert!(floors.len() > 5, "ARCHITECTURE.md has no table of floors");
    floors
}

fn floor(floors: &[Vec<String>], module: &str) -> Option<usize> {
    floors.iter().position(|floor| floor.iter().any(|name| name == module))
}

/// A module imports only from lower floors.
fn imports_point_down(sources: &[Source]) -> Breaches {
    let (control_floors, engine_floors) = (floors(0), floors(1));
    let mut breaches = Vec::new();
    for source in sources {
        let floors = if source.is_engine() { &engine_floors } else { &control_floors };
        let module = source.module();
        // lib.rs and main.rs stand above everything.
        let Some(&top) = module.first() else { continue };
        let Some(own) = floor(floors, top) else {
            breaches.push(source.breach(1, &format!("the module {top} is on no floor")));
            continue;
        };
        for (line, code) in source.code() {
            if code.trim_end().ends_with("crate::{") {
                breaches.push(source.breach(line, "imports from crate:: are written one module a line"));
            }
            let mut used = names_after(&code, "crate::");
            // `super::` from the top of a module leaves it.
            let up = "super::".repeat(module.len());
            used.extend(names_after(&code, &up));
            for name in used {
                match floor(floors, &name) {
                    Some(theirs) if name != top && theirs >= own => {
                        breaches.push(source.breach(line, &format!("{top} imports {name}, which is not below it")));
                    }
                    _ => {}
                }
            }
        }
    }
    breaches
}

/// The engine knows the words and the data readers of the control plane, and nothing else of it; the control plane
/// does not know the engine.
fn the_planes_are_apart(sources: &[Source]) -> Breaches {
    let mut breaches = Vec::new();
    for source in sources {
        for (line, code) in source.code() {
            if source.is_engine() {
                for name in names_after(&code, "finetuned::") {
                    if !ENGINE_MAY_USE.contains(&name.as_str()) {
                        breaches.push(source.breach(line, &format!("the engine imports finetuned::{name}")));
                    }
                }
            } else if says(&code, "finetuned_engine") {
                breaches.push(source.breach(line, "the control plane imports the engine"));
            }
        }
    }
    breaches
}

/// A file fits a reader's head.
fn files_are_short(sources: &[Source]) -> Breaches {
    let long = sources.iter().filter(|source| source.code().count() > LONGEST_FILE);
    long.map(|source| source.breach(LONGEST_FILE + 1, "the file is longer than 400 lines, its tests aside")).collect()
}

/// Each framework is known in one place.
fn frameworks_have_one_place(sources: &[Source]) -> Breaches {
    let places: [(&str, &[&str]); 5] = [
        ("axum", &["src/api/", "src/cli/serve.rs"]),
        ("sqlx", &["src/db/"]),
        ("tch", &["engine/src/"]),
        ("torch_sys", &["engine/src/native.rs"]),
        ("clap", &["src/cli/"]),
    ];
    let mut breaches = Vec::new();
    for source in sources {
        for (line, code) in source.code() {
            for (framework, allowed) in places {
                if says(&code, framework) && !allowed.iter().any(|place| source.path.starts_with(place)) {
                    breaches
                        .push(source.breach(line, &format!("{framework} is known in {} alone", allowed.join(", "))));
                }
            }
        }
    }
    breaches
}

/// The environment is read once, in config.rs, so that every setting is documented and checked.
fn the_environment_is_read_in_config(sources: &[Source]) -> Breaches {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.path != "src/config.rs") {
        for (line, code) in source.code() {
            if ["env::var", "env::vars", "env::var_os", "env::vars_os"].iter().any(|word| says(&code, word)) {
                breaches.push(source.breach(line, "the environment is read in config.rs alone"));
            }
        }
    }
    breaches
}

/// A metric is named in its table alone; whoever needs the name asks the value.
fn metrics_are_named_in_their_table(sources: &[Source]) -> Breaches {
    let mut names: Vec<String> = metric::all().iter().map(|metric| metric.name().to_owned()).collect();
    for (metric, split) in metric::by_split() {
        names.extend([metric.on(split), metric.column(split).0].into_iter().chain(metric.openai_names(split)));
    }
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("src/domain/metric/")) {
        // A hyperparameter may be called as a metric is: DPO's `loss` chooses one of several.
        let is_own = |text: &str| source.path.starts_with("src/domain/method/") && text == metric::LOSS.name();
        for (line, text) in source.texts().filter(|(_, text)| names.contains(text) && !is_own(text)) {
            breaches.push(source.breach(line, &format!("the metric {text} is named outside src/domain/metric/")));
        }
        // In SQL a text is in single quotes.
        for (line, text) in source.lines() {
            for name in names.iter().filter(|name| text.contains(&format!("'{name}'"))) {
                breaches.push(source.breach(line, &format!("the metric {name} is named outside src/domain/metric/")));
            }
        }
    }
    breaches
}

/// A method is told from others where it is at home and in the engine's registry of tasks, and nowhere else.
fn methods_are_told_apart_at_home(sources: &[Source]) -> Breaches {
    const HOMES: [&str; 2] = ["src/domain/method/", "engine/src/tasks/mod.rs"];
    let variants = METHODS.map(|method| format!("Method::{method:?}"));
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| !HOMES.iter().any(|home| source.path.starts_with(home))) {
        for (line, code) in statements(source) {
            for variant in variants.iter().filter(|variant| code.contains(variant.as_str())) {
                breaches.push(source.breach(line, &format!("{variant} is told from other methods; ask its card")));
            }
            let taken_apart = ["Method::*", "Method::{", "Method as "].into_iter().find(|way| code.contains(way));
            if let Some(way) = taken_apart.filter(|_| code.contains("method::")) {
                breaches.push(source.breach(line, &format!("{way} gives methods other names; ask their cards")));
            }
        }
    }
    breaches
}

/// The same of model families, which the registries of the engine's models name.
fn families_are_told_apart_at_home(sources: &[Source]) -> Breaches {
    // In the rooms of the families their own files and the registry, `mod.rs`; what they share knows none.
    const SHARED: [&str; 6] = ["architecture", "backbone", "classifier", "embedder", "masked_lm", "pooling"];
    let families = FAMILIES.map(|family| format!("\"{family}\""));
    let mut breaches = Vec::new();
    let is_home = |source: &&Source| {
        let rest = source.path.strip_prefix("engine/src/models/").and_then(|rest| rest.split_once('/'));
        rest.is_some_and(|(_, file)| !SHARED.contains(&file.trim_end_matches(".rs")))
    };
    for source in sources.iter().filter(|source| !is_home(source)) {
        for (line, text) in source.texts() {
            if families.contains(&format!("\"{text}\"")) {
                breaches.push(source.breach(line, &format!("the family {text} is named outside engine/src/models/")));
            }
        }
    }
    breaches
}

/// A job gets another status in one file, which tells it and checks it.
fn a_status_is_set_in_one_file(sources: &[Source]) -> Breaches {
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.path != "src/db/moves.rs") {
        let code: Vec<String> = source.lines().map(|(_, line)| line.trim().to_lowercase()).collect();
        let text = code.join(" ").replace(" =", "=").replace("= ", "=");
        for (at, _) in text.match_indices("update ") {
            let statement = text[at..].split(" where ").next().unwrap();
            let is_of_jobs = statement.split([' ', '.']).skip(1).take(3).any(|word| word == "jobs");
            let set = statement.split(" set ").nth(1).unwrap_or_default();
            if is_of_jobs && (says(set, "status") && (set.contains("status=") || set.starts_with('('))) {
                breaches.push(source.breach(1, "sets a job's status, which db/moves.rs alone does"));
            }
        }
        for (at, _) in text.match_indices("insert into jobs") {
            let statement = text[at..].split('"').next().unwrap();
            let (columns, rest) = statement.split_once(" values ").unwrap_or((statement, ""));
            let updated = rest.split_once("do update set").map_or("", |(_, set)| set);
            if says(columns, "status") || says(updated, "status") {
                breaches.push(source.breach(1, "inserts a job's status, which is the schema's"));
            }
        }
    }
    breaches
}

/// Files of one room do not know each other in circles. A `mod.rs` is the face of its folder: it and the files below it are
/// one thing seen from two sides, and who names what it passes on with `pub use` knows the file behind it.
fn no_circle_of_files(sources: &[Source]) -> Breaches {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let names: BTreeSet<String> = sources.iter().map(place).collect();
    let faces = faces(sources, &names);
    for source in sources {
        let own = place(source);
        for (_, code) in statements(source) {
            if !passes_on(&code) {
                let found = files_named(&code, source, &names, &faces);
                let is_above = |above: &str, below: &str| below.starts_with(&format!("{above}/"));
                let apart = |other: &String| *other != own && !is_above(other, &own) && !is_above(&own, other);
                known.entry(own.clone()).or_default().extend(found.into_iter().filter(apart));
            }
        }
    }
    let reaches = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            for next in known.get(file).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let in_circle = known.keys().filter(|file| reaches(file).contains(file));
    in_circle.map(|file| format!("{file}: knows itself through others of its room")).collect()
}

/// The code line by line, but an import of several lines as one.
fn statements(source: &Source) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (line, code) in source.code() {
        let code = code.trim();
        match found.last_mut().filter(|_| is_open) {
            Some((_, import)) => import.push_str(code),
            None => found.push((line, code.to_owned())),
        }
        is_open |= code.starts_with("use ") || passes_on(code);
        is_open &= !code.ends_with(';');
    }
    found
}

/// Whether an import is for others.
fn passes_on(code: &str) -> bool {
    code.starts_with("pub use ") || code.starts_with("pub(") && code.contains(" use ")
}

/// The file behind each name that a room's `mod.rs` passes on.
fn faces(sources: &[Source], names: &BTreeSet<String>) -> BTreeMap<(String, String), String> {
    let mut faces = BTreeMap::new();
    for source in sources.iter().filter(|source| source.path.ends_with("/mod.rs")) {
        let room = place(source);
        for (_, code) in statements(source).into_iter().filter(|(_, code)| passes_on(code)) {
            let Some((_, path)) = code.split_once("use ") else { continue };
            let Some((file, _)) = path.trim_start_matches("self::").split_once("::") else { continue };
            let below = format!("{room}/{file}");
            for name in names_after(path.trim_start_matches("self::"), &format!("{file}::")) {
                if names.contains(&below) {
                    faces.insert((room.clone(), name), below.clone());
                }
            }
        }
    }
    faces
}

/// The name of a file's module: `src/db/queue`; that of a room for its `mod.rs`.
fn place(source: &Source) -> String {
    let root = if source.is_engine() { "engine/src" } else { "src" };
    source.module().iter().fold(root.to_owned(), |path, part| format!("{path}/{part}"))
}

/// The files of the same room that a line names.
fn files_named(
    code: &str,
    source: &Source,
    names: &BTreeSet<String>,
    faces: &BTreeMap<(String, String), String>,
) -> Vec<String> {
    let module = source.module();
    let Some(room) = module.first() else { return Vec::new() };
    let root = if source.is_engine() { "engine/src" } else { "src" };
    let is_folder = source.path.ends_with("/mod.rs");
    let mut found = Vec::new();
    // From the innermost folder outwards: `super::` from a file names its folder.
    for depth in 0..module.len() {
        let folder = &module[..module.len() - depth];
        let path = folder.iter().fold(root.to_owned(), |path, part| format!("{path}/{part}"));
        let mut used = Vec::new();
        if depth > 0 {
            used.extend(names_after(code, &"super::".repeat(depth)));
        }
        used.extend(names_after(code, &format!("crate::{}::", folder.join("::"))));
        if depth == 0 && is_folder {
            let children = names.iter().filter_map(|name| name.strip_prefix(&format!("{path}/")));
            let named = children.filter(|child| !child.contains('/') && names_child(code, child));
            used.extend(named.map(str::to_owned));
        }
        for name in used.into_iter().filter(|name| name != "super" && name != "self") {
            let mut file = format!("{path}/{name}");
            if !names.contains(&file) {
                let behind = faces.get(&(path.clone(), name.clone()));
                found.push(behind.unwrap_or(&path).clone());
                continue;
            }
            // As far down as the line says: `job::error` is not `job`.
            let mut said = name.clone();
            while let Some(below) = names
                .iter()
                .filter_map(|other| other.strip_prefix(&format!("{file}/")))
                .find(|below| !below.contains('/') && code.contains(&format!("{said}::{below}::")))
            {
                said = format!("{said}::{below}");
                file = format!("{file}/{below}");
            }
            found.push(file);
        }
    }
    found.retain(|file| file.starts_with(&format!("{root}/{room}")));
    found
}

/// Whether a line of a `mod.rs` uses something of one of its files.
fn names_child(code: &str, child: &str) -> bool {
    code.match_indices(&format!("{child}::")).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

/// Nothing panics on purpose, and nothing prints past the log, outside tests and the command lines.
fn nothing_panics_or_prints(sources: &[Source]) -> Breaches {
    let banned =
        [".unwrap()", ".expect(", "println!", "eprintln!", "print!", "eprint!", "dbg!", "todo!", "unimplemented!"];
    let command_lines = ["src/cli/", "engine/src/main.rs"];
    let mut breaches = Vec::new();
    for source in sources {
        let is_command_line = command_lines.iter().any(|place| source.path.starts_with(place));
        for (line, code) in source.code() {
            for word in banned {
                let prints = word.contains("print");
                let found = if word.starts_with('.') {
                    code.contains(word)
                } else {
                    says(&code, word.trim_end_matches('!')) && code.contains(word)
                };
                if found && !(is_command_line && prints) {
                    breaches.push(source.breach(line, &format!("{word} outside tests")));
                }
            }
        }
    }
    breaches
}

/// Reads the sources of both crates.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src"), root.join("engine/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let relative = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path: relative });
            }
        }
    }
    assert!(found.len() > 80, "the sources are where they are looked for");
    found
}

#[track_caller]
fn check(rule: fn(&[Source]) -> Breaches) {
    let breaches = rule(&sources());
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// The rule finds the breach planted in each of these files, and nothing in the others.
#[track_caller]
fn finds(rule: fn(&[Source]) -> Breaches, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        assert_eq!(rule(&[Source::new(path, text)]).len(), 1, "{path}: {text}");
    }
    for (path, text) in good {
        assert_eq!(rule(&[Source::new(path, text)]), Breaches::new(), "{path}: {text}");
    }
}

#[test]
fn imports_point_down_in_the_source() {
    check(imports_point_down);
    finds(
        imports_point_down,
        &[
            ("src/domain/job.rs", "use crate::db::Db;"),
            ("src/db/files.rs", "use crate::app::App;"),
            ("src/app/mod.rs", "fn f() { crate::worker::run() }"),
            ("src/worker/mod.rs", "use crate::{api::Route, domain::job::Job};"),
            ("src/store/local.rs", "use crate::db::Db;"),
            ("src/api/mod.rs", "use super::cli::main;"),
            ("src/api/files.rs", "use super::super::worker::run;"),
            ("src/extra.rs", "fn f() {}"),
            ("src/app/mod.rs", "use crate::{\n    api::Route,\n};"),
            ("engine/src/nn/mod.rs", "use crate::models::text::TextBackbone;"),
            ("engine/src/weights.rs", "use super::params::ParamTable;"),
        ],
        &[
            ("src/app/mod.rs", "use crate::db::Db;\nuse crate::app::files;"),
            ("src/db/files.rs", "use super::hash32;\nuse crate::domain::file::File;"),
            ("src/lib.rs", "pub mod cli;"),
            (
                "src/domain/job.rs",
                "/// See crate::app.\nfn f() { g(\"crate::app\") }\n#[cfg(test)]\nuse crate::app::App;",
            ),
        ],
    );
}

#[test]
fn the_planes_are_apart_in_the_source() {
    check(the_planes_are_apart);
    finds(
        the_planes_are_apart,
        &[
            ("engine/src/run.rs", "use finetuned::db::Db;"),
            ("engine/src/run.rs", "use finetuned::{domain::job::Job, app::App};"),
            ("src/worker/child.rs", "use finetuned_engine::run;"),
        ],
        &[("engine/src/run.rs", "use finetuned::domain::job::Job;\nuse finetuned::dataset::labelled;")],
    );
}

#[test]
fn files_are_short_in_the_source() {
    check(files_are_short);
    let lines = |count: usize| "fn f() {}\n".repeat(count);
    let with_tests = format!("{}\n#[cfg(test)]\nmod tests {{\n{}}}\n", lines(399), lines(400));
    finds(files_are_short, &[("src/a.rs", &lines(401))], &[("src/a.rs", &lines(400)), ("src/a.rs", &with_tests)]);
}

#[test]
fn frameworks_have_one_place_in_the_source() {
    check(frameworks_have_one_place);
    finds(
        frameworks_have_one_place,
        &[
            ("src/app/files.rs", "use axum::Json;"),
            ("src/worker/mod.rs", "async fn f(db: &sqlx::PgPool) {}"),
            ("src/dataset/mod.rs", "use tch::Tensor;"),
            ("engine/src/nn/mod.rs", "use torch_sys::C_tensor;"),
            ("src/config.rs", "use clap::Arg;"),
        ],
        &[
            ("src/api/mod.rs", "use axum::Router;"),
            ("src/db/mod.rs", "use sqlx::Postgres;"),
            ("src/app/mod.rs", "let watch = patch;"),
        ],
    );
}

#[test]
fn the_environment_is_read_in_config_in_the_source() {
    check(the_environment_is_read_in_config);
    finds(
        the_environment_is_read_in_config,
        &[("src/app/mod.rs", "let x = std::env::var(\"X\");"), ("engine/src/device.rs", "env::var_os(\"X\")")],
        &[("src/config.rs", "std::env::var(name)"), ("src/app/mod.rs", "std::env::current_exe(); env!(\"X\")")],
    );
}

#[test]
fn nothing_panics_or_prints_in_the_source() {
    check(nothing_panics_or_prints);
    finds(
        nothing_panics_or_prints,
        &[
            ("src/app/mod.rs", "x.unwrap();"),
            ("src/app/mod.rs", "x.expect(\"reason\");"),
            ("src/app/mod.rs", "println!(\"x\");"),
            ("engine/src/run.rs", "eprintln!(\"x\");"),
            ("src/cli/mod.rs", "x.unwrap();"),
            ("src/app/mod.rs", "todo!()"),
        ],
        &[
            ("src/cli/keys.rs", "println!(\"x\");"),
            (
                "src/app/mod.rs",
                "x.unwrap_or_default(); // .unwrap()\n\n#[cfg(test)]\nmod tests { fn f() { x.unwrap(); } }",
            ),
        ],
    );
}

#[test]
fn metrics_are_named_in_their_table_in_the_source() {
    check(metrics_are_named_in_their_table);
    finds(
        metrics_are_named_in_their_table,
        &[
            ("src/db/checkpoints.rs", "let best = \"full_valid_accuracy\";"),
            ("engine/src/tasks/embedding.rs", "json!({\"line\": line, \"loss\": loss})"),
            ("src/worker/reports.rs", "(\"x\", \"valid_mean_token_accuracy\")"),
            ("src/db/checkpoints.rs", "r#\"\n    order by (metrics ->> 'full_valid_accuracy')::float8\n    \"#"),
        ],
        &[
            ("src/domain/metric/mod.rs", "Metric::new(\"loss\", Better::Lower)"),
            ("src/domain/method/dpo.rs", "name: \"loss\","),
            ("src/worker/reports.rs", "/// \"loss\"\nlet loss = \"a loss\"; // \"loss\"\n#[cfg(test)]\nf(\"loss\")"),
        ],
    );
}

#[test]
fn methods_are_told_apart_at_home_in_the_source() {
    check(methods_are_told_apart_at_home);
    finds(
        methods_are_told_apart_at_home,
        &[
            ("src/app/a.rs", "if method == Method::MaskedLm { 1 } else { 2 }"),
            ("engine/src/tasks/loss.rs", "match method {\n    Method::Embedding => 1,\n    _ => 2,\n}"),
            ("src/app/a.rs", "use crate::domain::method::Method::*;"),
            ("src/app/a.rs", "use crate::domain::{\n    id::JobId,\n    method::Method::{Embedding, MaskedLm},\n};"),
            ("src/app/a.rs", "use finetuned::domain::method::{METHODS, Method as M};"),
        ],
        &[
            ("src/domain/method/mod.rs", "Self::MaskedLm | Method::MaskedLm => 1"),
            ("src/app/a.rs", "let method = Method::default_for(backbone);"),
            ("src/api/a.rs", "route(Method::GET)"),
        ],
    );
}

#[test]
fn families_are_told_apart_at_home_in_the_source() {
    check(families_are_told_apart_at_home);
    let registries = sources().into_iter().filter(|source| source.path.starts_with("engine/src/models/"));
    let named: BTreeSet<String> =
        registries.flat_map(|source| source.texts().map(|(_, text)| text).collect::<Vec<_>>()).collect();
    assert!(FAMILIES.iter().all(|family| named.contains(*family)), "{named:?}");
    finds(
        families_are_told_apart_at_home,
        &[
            ("src/app/a.rs", "if model.family == \"modernbert\" { 1 } else { 2 }"),
            ("engine/src/models/config.rs", "match family {\n    \"bert\" => 1,\n    _ => 2,\n}"),
            ("engine/src/models/text/classifier.rs", "family == \"bert\""),
        ],
        &[("engine/src/models/text/bert.rs", "\"bert\""), ("src/app/a.rs", "\"bert-base\" // \"bert\"")],
    );
}

#[test]
fn a_status_is_set_in_one_file_in_the_source() {
    check(a_status_is_set_in_one_file);
    finds(
        a_status_is_set_in_one_file,
        &[
            (
                "src/db/queue.rs",
                "sqlx::query!(\n    r#\"\n    update jobs\n    set phase = null, status = 'failed'\n    where id = $1",
            ),
            ("src/db/jobs.rs", "insert into jobs (id, status) values ($1, 'queued')"),
            ("src/db/jobs.rs", "UPDATE jobs\nSET status=$1\nWHERE id = $2"),
            ("src/db/jobs.rs", "update only public.jobs set (status, phase) = ('failed', null) where id = $1"),
            ("src/db/jobs.rs", "insert into jobs (id) values ($1) on conflict (id) do update set status = 'queued'"),
        ],
        &[
            ("src/db/moves.rs", "update jobs set status = $2 where id = $1"),
            ("src/db/queue.rs", "update jobs set phase = $2 where id = $1 and status = 'running'"),
            ("src/db/jobs.rs", "insert into jobs (id, kind) values ($1, $2)"),
        ],
    );
}

#[test]
fn no_circle_of_files_in_the_source() {
    check(no_circle_of_files);
    let circles = |files: &[(&str, &str)]| {
        no_circle_of_files(&files.iter().map(|(path, text)| Source::new(path, text)).collect::<Vec<_>>())
    };
    let two = [("src/db/a.rs", "use super::b::B;"), ("src/db/b.rs", "use crate::db::a::A;")];
    assert_eq!(circles(&two).len(), 2);
    let through_a_third = [
        ("src/db/a.rs", "fn f() { super::b::g() }"),
        ("src/db/b.rs", "use super::c::{C, D};"),
        ("src/db/c.rs", "use super::{a::A, helper};"),
    ];
    assert_eq!(circles(&through_a_third).len(), 3);
    let by_its_face = [
        ("src/db/mod.rs", "mod a;\nmod b;\npub use a::{\n    A,\n    Other,\n};\npub use self::b::B;"),
        ("src/db/a.rs", "use super::{\n    B,\n    helper,\n};"),
        ("src/db/b.rs", "use super::{Other, helper};"),
    ];
    assert_eq!(circles(&by_its_face).len(), 2);
    let deeper = [
        ("src/app/jobs/mod.rs", "use self::x::X;\nuse super::models::M;"),
        ("src/app/models.rs", "use super::jobs::x::X;\nuse crate::app::jobs::Y;"),
        ("src/app/jobs/x.rs", ""),
    ];
    assert_eq!(circles(&deeper).len(), 2);
    let none = [
        ("src/db/mod.rs", "mod a;\npub use a::{\n    A,\n};\npub(crate) fn helper() { a::g() }"),
        ("src/db/a.rs", "use super::helper;\nuse crate::domain::b::B;"),
        ("src/domain/b.rs", "use super::c::C;"),
        ("src/domain/c.rs", ""),
        // One that knows a part of what knows it.
        ("src/domain/d/mod.rs", "use super::e::E;"),
        ("src/domain/d/error.rs", ""),
        ("src/domain/e.rs", "use super::d::error::Error;"),
    ];
    assert_eq!(circles(&none), Breaches::new());
}

/// Files that do not say what they are, and folders that the map does not have.
fn unsaid(sources: &[Source], map: &str) -> Breaches {
    let silent = sources.iter().filter(|source| !source.text.starts_with("//! "));
    let silent = silent.map(|source| source.breach(1, "the first line does not say what the file is"));
    let folders: BTreeSet<&str> = sources.iter().filter_map(|source| Some(source.path.rsplit_once('/')?.0)).collect();
    let unknown = folders.into_iter().filter(|folder| !map.contains(&format!("| `{folder}/` |")));
    silent.chain(unknown.map(|folder| format!("ARCHITECTURE.md has no row for `{folder}/`"))).collect()
}

#[test]
fn every_file_says_what_it_is_and_every_folder_is_on_the_map_in_the_source() {
    let breaches = unsaid(&sources(), &page());
    assert!(breaches.is_empty(), "\n\n{}\n", breaches.join("\n"));
}

#[test]
fn a_silent_file_and_an_unknown_folder_are_found() {
    let said = Source::new("src/db/a.rs", "//! Rows.\n");
    let map = "| `src/db/` | tables |";
    assert_eq!(unsaid(&[said], map), Breaches::new());
    let silent = [Source::new("src/db/a.rs", "use std::fs;\n"), Source::new("src/new/b.rs", "//! New.\n")];
    assert_eq!(unsaid(&silent, map).len(), 2);
}
