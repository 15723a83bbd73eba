//! Preferences for language models: what is answered, an answer that is preferred, and one that is not.

mod answers;
mod forms;
mod judgement;
mod transcripts;
mod whole;

use std::io;

use serde::{Deserialize, Serialize};

use self::answers::choice;
use self::forms::{fit, settle};
use self::judgement::Read;
use super::chats::findings::{Findings, Remarks};
use super::chats::talk;
use super::entries::{Entries, Entry, Ledger, Step, good, settled};
use super::kind::{Kind, Watch};
use super::prints::of_texts;
use super::row::Row;
use super::tally::{Talk, Tally};
use super::{Input, rows};
use crate::domain::chat::{Conversation, Message};
use crate::domain::report::{Contents, DataFormat, ExamplesReport, PreferenceStatistics, UploadKind};

/// One preference, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    pub line: u64,
    pub choice: Choice,
}

impl Preference {
    /// What it is known by: equal ones have the same.
    pub fn print(&self) -> u64 {
        let said = talk_of(&self.choice);
        of_texts(said.framing.iter().chain(&said.spoken).copied())
    }
}

/// What is chosen between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Two ways in which a conversation goes on, each of which begins and ends with the assistant.
    Conversation { input: Conversation, preferred: Vec<Message>, non_preferred: Vec<Message> },
    /// Two ways in which a text goes on, without a chat template.
    Completion { prompt: String, preferred: String, non_preferred: String },
}

/// The preferences of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input) -> io::Result<Entries<Preference>> {
    let remarks = Remarks::default();
    let counted = remarks.clone();
    let entries = settled(rows::read_whole(input)?, Row::weight, settle, move |&form, row| {
        let mut findings = Findings::new(row.line);
        Ok(Step::To(match choice(&row, form, &mut findings) {
            Read::Skipped(what) => Entry::Skipped(what.into()),
            Read::Choice(choice) => {
                let made = choice.map(|choice| Preference { line: row.line, choice });
                findings.entry(made, &counted)
            }
        }))
    });
    Ok(remarks.told(entries))
}

/// Preferences.
pub struct Preferences;

impl Kind for Preferences {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        fit(there)
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        let (mut tally, mut ledger) = (Tally::new(watch), Ledger::default());
        let mut preferences = PreferenceStatistics::default();
        for preference in good(read(input)?, &mut ledger) {
            let Preference { line, choice } = preference?;
            tally.add_talk(line, &talk_of(&choice));
            count(&mut preferences, &choice, tally.examples());
        }
        let preferences = Box::new(preferences);
        Ok(tally.report(ledger, |_, text_lengths| Contents::Preferences { preferences, text_lengths }))
    }

    fn upload_kind(&self) -> Option<UploadKind> {
        Some(UploadKind::Preferences)
    }

    fn inspect(&self, input: &Input, there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        if self.fits(input.format, there).is_ok() { self.report(input, &mut ()).map(Some) } else { Ok(None) }
    }
}

fn talk_of(choice: &Choice) -> Talk<'_> {
    match choice {
        Choice::Conversation { input, preferred, non_preferred } => {
            talk::of_conversation(input, &[preferred, non_preferred])
        }
        Choice::Completion { prompt, preferred, non_preferred } => {
            Talk { framing: Vec::new(), spoken: vec![prompt, preferred, non_preferred], language: Some(preferred) }
        }
    }
}

/// Counts a preference; `count` is the number of preferences with it.
fn count(preferences: &mut PreferenceStatistics, choice: &Choice, count: u64) {
    let (preferred, non_preferred) = match choice {
        Choice::Conversation { input, preferred, non_preferred } => {
            preferences.turns.add(talk::turns(&input.messages), count);
            preferences.with_tools += u64::from(!input.tools.is_empty());
            let characters = |messages: &[Message]| messages.iter().map(talk::characters).sum();
            (characters(preferred), characters(non_preferred))
        }
        Choice::Completion { preferred, non_preferred, .. } => {
            let characters = |text: &String| text.chars().count() as u64;
            (characters(preferred), characters(non_preferred))
        }
    };
    preferences.preferred_lengths.add(preferred, count);
    preferences.non_preferred_lengths.add(non_preferred, count);
}

#[cfg(test)]
mod tests {
    use super::{Choice, Input, Message, Preference, read};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::chat::Role;
    use crate::domain::report::{DataFormat, Fault};

    pub(super) fn read_bytes(bytes: &[u8], format: DataFormat) -> (Vec<Preference>, Ledger) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut ledger = Ledger::default();
        let entries = read(&Input::new(file.path(), format)).unwrap();
        let found = good(entries, &mut ledger).map(Result::unwrap).collect();
        (found, ledger)
    }

    pub(super) fn faults(ledger: &Ledger) -> Vec<String> {
        let shown =
            |fault: &Fault| format!("{} {}: {}", fault.line, fault.field.as_deref().unwrap_or_default(), fault.message);
        ledger.faults.listed.iter().map(shown).collect()
    }

    /// What is chosen between in the one row of a file, and how it was read.
    #[track_caller]
    pub(super) fn one(row: &str) -> (Choice, String) {
        let (mut found, ledger) = read_bytes(row.as_bytes(), DataFormat::Jsonl);
        assert_eq!((found.len(), faults(&ledger)), (1, Vec::new()), "{row}");
        (found.remove(0).choice, ledger.notes[0].message.clone())
    }

    /// What is wrong with a row of a file whose other rows are like `good`.
    #[track_caller]
    pub(super) fn wrong(good: &str, row: &str) -> Vec<String> {
        let (found, ledger) = read_bytes(format!("{good}\n{good}\n{row}\n").as_bytes(), DataFormat::Jsonl);
        assert_eq!((found.len(), ledger.counts.faulty), (2, 1), "{row}");
        let faults = faults(&ledger).into_iter();
        faults.map(|fault| fault.strip_prefix("3 ").expect("it is the third row's").to_owned()).collect()
    }

    pub(super) const USER: &str = r#"{"role":"user","content":"a"}"#;
    pub(super) const ANSWER: &str = r#"{"role":"assistant","content":"b"}"#;
    pub(super) const OTHER: &str = r#"{"role":"assistant","content":"c"}"#;

    /// What is said by whom.
    fn said(messages: &[Message]) -> String {
        let shown =
            |message: &Message| format!("{}:{}", message.role.as_str(), message.content.as_deref().unwrap_or("-"));
        messages.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn preferences_in_chats_are_the_same_however_they_are_written() {
        let openai = "Read as OpenAI's preferences: input, preferred_output and non_preferred_output.";
        let older = "Read as OpenAI's preferences: input, preferred_completion and non_preferred_completion.";
        let answers = |column: &str| format!("Read as preferences in chats: chosen and rejected answer {column}.");
        let whole = "Read as preferences in chats: what chosen and rejected have in common";
        let (sharegpt_b, sharegpt_c) = (r#"{"from":"gpt","value":"b"}"#, r#"{"from":"gpt","value":"c"}"#);
        let text = |json: &str| serde_json::to_string(json).unwrap();
        for (row, read_as) in [
            (
                format!(
                    r#"{{"input":{{"messages":[{USER}]}},"preferred_output":[{ANSWER}],"non_preferred_output":[{OTHER}]}}"#
                ),
                openai,
            ),
            (
                format!(
                    r#"{{"input":{{"messages":[{USER}]}},"preferred_completion":[{ANSWER}],"non_preferred_completion":[{OTHER}]}}"#
                ),
                older,
            ),
            (format!(r#"{{"prompt":[{USER}],"chosen":[{ANSWER}],"rejected":[{OTHER}]}}"#), &answers("prompt")),
            (format!(r#"{{"prompt":[{USER}],"chosen":"b","rejected":"c"}}"#), &answers("prompt")),
            (format!(r#"{{"prompt":"a","chosen":[{ANSWER}],"rejected":[{OTHER}]}}"#), &answers("prompt")),
            (format!(r#"{{"chosen":[{USER},{ANSWER}],"rejected":[{USER},{OTHER}]}}"#), whole),
            (format!(r#"{{"prompt":"a","chosen":[{USER},{ANSWER}],"rejected":[{USER},{OTHER}],"score":3}}"#), whole),
            (format!(r#"{{"chosen":{},"rejected":[{USER},{OTHER}]}}"#, text(&format!("[{USER},{ANSWER}]"))), whole),
            (
                format!(
                    r#"{{"conversations":[{{"from":"human","value":"a"}}],"chosen":{sharegpt_b},"rejected":{sharegpt_c}}}"#
                ),
                &answers("conversations"),
            ),
            (r#"{"question":"a","chosen":"b","rejected":"c"}"#.to_owned(), &answers("question")),
            (r#"{"instruction":"a","input":"","chosen":"b","rejected":"c"}"#.to_owned(), &answers("instruction")),
            (
                r#"{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant: c"}"#.to_owned(),
                "Read as transcripts: Human is the user",
            ),
            (
                r#"{"prompt":"\n\nHuman: a\n\nAssistant:","chosen":" b","rejected":" c"}"#.to_owned(),
                "Read as transcripts: Human is the user",
            ),
        ] {
            let (choice, note) = one(&row);
            let Choice::Conversation { input, preferred, non_preferred } = choice else { panic!("{choice:?}") };
            let found = [&input.messages, &preferred, &non_preferred].map(|messages| said(messages));
            assert_eq!(found, ["user:a", "assistant:b", "assistant:c"], "{row}");
            assert!(note.starts_with(read_as), "{row}: {note}");
        }
    }

    #[test]
    fn texts_stay_texts_unless_there_is_a_system_message() {
        let (choice, note) = one(r#"{"prompt":"[1","chosen":", 2]","rejected":"{","system":" "}"#);
        let [prompt, preferred, non_preferred] = ["[1", ", 2]", "{"].map(str::to_owned);
        assert_eq!(choice, Choice::Completion { prompt, preferred, non_preferred });
        assert!(note.starts_with("Read as texts without a chat template"), "{note}");
        let (choice, _) = one(r#"{"prompt":"a","chosen":"b","rejected":"c","system":"d"}"#);
        let Choice::Conversation { input, .. } = choice else { panic!("{choice:?}") };
        assert_eq!(said(&input.messages), "system:d user:a");
    }

    #[test]
    fn outputs_may_call_tools_and_go_on_for_several_turns() {
        let call = r#"{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
        let tools = r#""tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":true"#;
        let (choice, _) = one(&format!(
            r#"{{"input":{{"messages":[{USER}],{tools}}},"preferred_output":[{call}],"non_preferred_output":[{OTHER}]}}"#
        ));
        let Choice::Conversation { input, preferred, .. } = choice else { panic!("{choice:?}") };
        assert_eq!((input.tools.len(), input.parallel_tool_calls), (1, Some(true)));
        assert_eq!((preferred[0].tool_calls.len(), preferred[0].role), (1, Role::Assistant));
        let (choice, _) =
            one(&format!(r#"{{"chosen":[{USER},{ANSWER},{USER},{OTHER}],"rejected":[{USER},{OTHER}],{tools}}}"#));
        let Choice::Conversation { input, preferred, non_preferred } = choice else { panic!("{choice:?}") };
        assert_eq!(said(&preferred), "assistant:b user:a assistant:c");
        assert_eq!((input.tools.len(), said(&non_preferred).as_str()), (1, "assistant:c"));
    }

    #[test]
    fn answers_that_say_nothing_are_skipped_in_transcripts_and_counted() {
        let rows = [
            r#"{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant: c"}"#,
            r#"{"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: a\n\nAssistant:"}"#,
        ];
        let (found, ledger) = read_bytes(rows.join("\n").as_bytes(), DataFormat::Jsonl);
        assert_eq!((found.len(), ledger.counts.skipped.get("empty answer"), ledger.counts.rows), (1, Some(&1), 2));
    }
}
