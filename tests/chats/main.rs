//! Conversations and preferences made from seeds, written in every form that is read: each is read as it was made, and every
//! planted fault is counted.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

mod made;
mod rows;

use std::fmt::Debug;
use std::io::Write;
use std::path::Path;

use finetuned::dataset::Input;
use finetuned::dataset::chats::{self, Sample};
use finetuned::dataset::entries::{Entries, Ledger, good};
use finetuned::dataset::preferences::{self, Choice};
use finetuned::domain::chat::{Message, Role, ToolCall};
use finetuned::domain::report::DataFormat;
use made::Numbers;
use rows::{CHAT_FORMS, PREFERENCE_FORMS, Planted, demonstration, faulty_demonstration, faulty_preference, preference};

/// A file of rows, some of them faulty, with blank lines between them, and packed now and then.
fn check<E, T: PartialEq + Debug>(
    seed: u64,
    row: impl Fn(&mut Numbers) -> Planted<T>,
    faulty: impl Fn(&mut Numbers) -> String,
    read: impl Fn(&Input) -> std::io::Result<Entries<E>>,
    found: impl Fn(E) -> (u64, T),
) {
    let mut numbers = Numbers(seed << 20);
    let (mut out, mut expected, mut faults, mut blank, mut line) = (String::new(), Vec::new(), Vec::new(), 0, 0);
    for number in 0..12 + numbers.below(20) {
        line += 1;
        // The first rows settle the form.
        let (text, made) =
            if number > 4 && numbers.is_in(2) { (faulty(&mut numbers), None) } else { row(&mut numbers) };
        match made {
            Some(made) => expected.push((line, made)),
            None => faults.push(line),
        }
        out.push_str(&text);
        out.push('\n');
        if numbers.is_in(1) {
            out.push_str(" \r\n");
            line += 1;
            blank += 1;
        }
    }
    let packed = match seed % 3 {
        0 => out.into_bytes(),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(out.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(out.as_bytes(), 1).unwrap(),
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), packed).unwrap();
    let mut ledger = Ledger::default();
    let entries = read(&Input::new(file.path(), DataFormat::Jsonl)).unwrap();
    let all: Vec<(u64, T)> = good(entries, &mut ledger).map(|one| found(one.unwrap())).collect();
    assert_eq!(all, expected, "seed {seed}: {}", ledger.faults.summary());
    let mut lines: Vec<u64> = ledger.faults.listed.iter().map(|fault| fault.line).collect();
    lines.dedup();
    assert_eq!(lines, faults, "seed {seed}: {}", ledger.faults.summary());
    let counts = &ledger.counts;
    assert_eq!(counts.faulty, faults.len() as u64, "seed {seed}");
    assert_eq!(counts.rows, (all.len() + faults.len()) as u64, "seed {seed}");
    assert_eq!((counts.lines.unwrap().lines, counts.lines.unwrap().blank), (line, blank), "seed {seed}");
}

#[test]
fn conversations_in_every_form_are_read_as_they_were_made_and_faults_are_counted() {
    for seed in 1..400 {
        let form = seed % CHAT_FORMS;
        check(
            seed,
            |numbers| demonstration(form, numbers),
            |numbers| faulty_demonstration(form, numbers),
            chats::read,
            |one| (one.line, one.sample),
        );
    }
}

#[test]
fn preferences_in_every_form_are_read_as_they_were_made_and_faults_are_counted() {
    for seed in 1..400 {
        let form = seed % PREFERENCE_FORMS;
        check(
            seed,
            |numbers| preference(form, numbers),
            |numbers| faulty_preference(form, numbers),
            preferences::read,
            |one| (one.line, one.choice),
        );
    }
}

fn fixture(name: &str) -> Input {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet").join(name);
    Input::new(path, DataFormat::Parquet)
}

#[test]
fn parquet_of_datasets_holds_conversations_without_the_keys_of_others() {
    let mut ledger = Ledger::default();
    let found = good(chats::read(&fixture("chats.parquet")).unwrap(), &mut ledger);
    let found: Vec<Sample> = found.map(|one| one.unwrap().sample).collect();
    assert_eq!((found.len(), ledger.faults.count), (12, 0), "{}", ledger.faults.summary());
    let [Sample::Conversation(first), Sample::Conversation(second), ..] = &found[..] else { panic!("{found:?}") };
    let said = |role, said: &str| Message::new(role, said);
    assert_eq!(first.messages, [said(Role::User, "question 0"), said(Role::Assistant, "answer 0")]);
    let call = ToolCall { id: None, name: "f".to_owned(), arguments: "{\"z\":1}".to_owned() };
    let calling = Message { content: None, tool_calls: vec![call], ..said(Role::Assistant, "") };
    let answering = Message { name: Some("f".to_owned()), ..said(Role::Tool, "3") };
    assert_eq!(
        second.messages,
        [said(Role::User, "question 1"), calling, answering, said(Role::Assistant, "answer 1")]
    );
    let mut ledger = Ledger::default();
    let found = good(preferences::read(&fixture("preferences.parquet")).unwrap(), &mut ledger);
    let found: Vec<Choice> = found.map(|one| one.unwrap().choice).collect();
    assert_eq!((found.len(), ledger.faults.count), (12, 0), "{}", ledger.faults.summary());
    let Choice::Conversation { input, preferred, non_preferred } = &found[3] else { panic!("{found:?}") };
    assert_eq!(input.messages, [said(Role::User, "question 3")]);
    assert_eq!((preferred, non_preferred), (&vec![said(Role::Assistant, "yes")], &vec![said(Role::Assistant, "no")]));
}

#[test]
fn whatever_a_damaged_row_says_it_is_read_or_refused_and_nothing_panics() {
    let is_json = |text: &String| serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object());
    for seed in 1..1500 {
        let mut numbers = Numbers(seed << 20);
        let is_chat = seed % 2 == 0;
        let form = numbers.below(5);
        let row = if is_chat { demonstration(form, &mut numbers).0 } else { preference(form, &mut numbers).0 };
        let mut bytes = row.into_bytes();
        for _ in 0..=numbers.below(3) {
            let (at, other) = (numbers.below(bytes.len() as u64) as usize, numbers.one_of(br#"[]{}":,0an\ "#));
            bytes[at] = other;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (input, mut ledger) = (Input::new(file.path(), DataFormat::Jsonl), Ledger::default());
        let mut found = 0;
        for one in good(chats::read(&input).unwrap(), &mut ledger).filter(|_| is_chat) {
            found += 1;
            if let Sample::Conversation(talk) = one.unwrap().sample {
                assert_eq!(talk.messages.last().unwrap().role, Role::Assistant, "seed {seed}");
                let calls = talk.messages.iter().flat_map(|message| &message.tool_calls).map(|call| &call.arguments);
                assert!(calls.chain(&talk.tools).all(is_json), "seed {seed}");
            }
        }
        for one in good(preferences::read(&input).unwrap(), &mut ledger).filter(|_| !is_chat) {
            found += 1;
            if let Choice::Conversation { preferred, non_preferred, .. } = one.unwrap().choice {
                assert_ne!(preferred, non_preferred, "seed {seed}");
            }
        }
        assert!(found > 0 || !ledger.faults.is_empty() || ledger.counts.skipped.len() == 1, "seed {seed}");
    }
}

#[test]
fn what_the_manual_shows_is_read() {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/data.md")).unwrap();
    let shown = |heading: &str| {
        let section = manual.split(heading).nth(1).unwrap();
        let block = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), block).unwrap();
        file
    };
    let mut ledger = Ledger::default();
    let file = shown("\n## Conversations\n");
    assert_eq!(good(chats::read(&Input::new(file.path(), DataFormat::Json)).unwrap(), &mut ledger).count(), 1);
    let file = shown("\n## Preferences\n");
    assert_eq!(good(preferences::read(&Input::new(file.path(), DataFormat::Json)).unwrap(), &mut ledger).count(), 1);
    assert!(ledger.faults.is_empty(), "{}", ledger.faults.summary());
}
