//! README.md and the manuals in docs/: what they link to is there, and what they print for shells and Python is run.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// README.md is for newcomers; what is longer is a manual.
const LONGEST_README: usize = 200;

/// Snippets that cannot be run as a part of the tests.
const MOST_NOT_RUN: usize = 6;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, ARCHITECTURE.md and the like, and the manuals, by their paths from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let names = |folder: &str| {
        let found = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let found = found.map(move |name| Path::new(folder).join(name));
        found.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect::<Vec<_>>()
    };
    let all = [names(""), names("docs")].concat();
    all.into_iter().map(|path| (path.clone(), fs::read_to_string(root().join(path)).unwrap())).collect()
}

/// A document without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Where a document's links lead to that do not leave the repository.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let found = prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()));
    found.filter(|target| !target.contains("://")).collect()
}

/// The links of a document that lead nowhere.
fn broken(path: &Path, text: &str) -> Vec<String> {
    let folder = root().join(path.parent().unwrap());
    let leads_somewhere = |link: &String| {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let has_anchor = |text: &str| anchor.is_empty() || anchors(text).contains(anchor);
        match fs::read_to_string(folder.join(file)) {
            _ if file.is_empty() => has_anchor(text),
            Ok(other) => has_anchor(&other),
            Err(_) => anchor.is_empty() && folder.join(file).exists(),
        }
    };
    links(text).into_iter().filter(|link| !leads_somewhere(link)).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10 && documents.iter().map(|(_, text)| links(text).len()).sum::<usize>() > 50);
    for (path, text) in &documents {
        assert_eq!(broken(path, text), [""; 0], "{}", path.display());
    }
}

#[test]
fn links_to_what_is_not_there_are_found() {
    let text = "# A b-c, `d`\n[1](#a-b-c-d) [2](#gone) [3](models.md) [4](gone.md) [5](models.md#base-models)\n\
                [6](models.md#gone) [7](https://example.org) ```[8](gone)``` [9](../README.md) [10](../examples)\n";
    assert_eq!(broken(Path::new("docs/api.md"), text), ["#gone", "gone.md", "models.md#gone"]);
}

#[test]
fn the_readme_is_short_and_names_every_manual() {
    let documents = documents();
    let (_, readme) = documents.iter().find(|(path, _)| path == Path::new("README.md")).unwrap();
    assert!(readme.lines().count() <= LONGEST_README, "{} lines", readme.lines().count());
    let linked: BTreeSet<String> = links(readme).into_iter().collect();
    for (path, _) in documents.iter().filter(|(path, _)| path.starts_with("docs")) {
        assert!(linked.contains(path.to_str().unwrap()), "{}", path.display());
    }
}

fn run_snippets(arguments: &[&str]) -> Output {
    Command::new("python3").arg(root().join("scripts/run_snippets.py")).args(arguments).output().unwrap()
}

#[test]
fn every_snippet_is_run_but_for_a_few_with_a_reason() {
    let output = run_snippets(&["--list"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (run, not_run): (Vec<&str>, Vec<&str>) = listed.lines().partition(|line| line.ends_with("  run"));
    assert!(run.len() > 40, "{listed}");
    assert!(not_run.len() <= MOST_NOT_RUN, "{not_run:#?}");
    for line in not_run {
        let reason = line.split_once("  not run: ").unwrap().1;
        assert!(reason.len() > 10, "{line}");
    }
    // Counted once more, by another reader: no block escapes the list.
    let blocks = documents().into_iter().filter(|(path, _)| path.starts_with("docs") || path.ends_with("README.md"));
    let opened = |text: &str| text.lines().filter(|line| matches!(line.trim(), "```sh" | "```python")).count();
    assert_eq!(blocks.map(|(_, text)| opened(&text)).sum::<usize>(), listed.lines().count());
}

/// Runs a document of its own, without a service.
fn run_document(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("document.md");
    fs::write(&path, text).unwrap();
    let output = run_snippets(&[path.to_str().unwrap()]);
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn snippets_share_one_shell_and_end_at_the_first_that_fails() {
    let (well, said) =
        run_document("```sh\nA=1\n```\n```text\nexit 1\n```\n```sh\necho a=$A\n```\n```python\nprint(6 * 7)\n```\n");
    assert!(well && said.contains("\na=1\n") && said.contains("\n42\n") && said.contains("3 snippets run"), "{said}");
    for failing in ["false", "false | cat", "A=$(false)", "echo $UNSET", "if"] {
        let (well, said) =
            run_document(&format!("```sh\necho one\n```\n\n```sh\n{failing}\n```\n```sh\necho th\"\"ree\n```\n"));
        assert!(!well && said.contains("document.md:5 failed") && said.contains("\none\n"), "{said}");
        assert!(!said.contains("\nthree\n"), "{said}");
    }
    let (well, said) = run_document("```python\nraise SystemExit(3)\n```\n");
    assert!(!well && said.contains("document.md:1 failed: status 3"), "{said}");
}

#[test]
fn blocks_of_other_kinds_or_without_an_end_are_refused() {
    for (text, why) in [
        ("```\nmake\n```\n", "document.md:1: a block of nothing"),
        ("a\n```bash\nmake\n```\n", "document.md:2: a block of bash"),
        ("```sh\nmake\n", "document.md:1: a block without an end"),
    ] {
        let (well, said) = run_document(text);
        assert!(!well && said.contains(why), "{said}");
    }
}
