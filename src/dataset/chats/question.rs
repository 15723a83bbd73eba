//! Examples as questions: what a model is asked, and all that the file says of it, for graders.

use std::io;

use serde_json::{Map, Value};

use super::{Demonstration, Sample, demonstrations};
use crate::dataset::Input;
use crate::dataset::entries::Entries;
use crate::dataset::row::Row;
use crate::domain::chat::Conversation;
use crate::domain::serving::Prompt;

/// An example to answer, and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub line: u64,
    /// What stands before the assistant's last message, or before the completion.
    pub prompt: Prompt,
    /// The fields of its row: an object.
    pub item: Value,
}

/// The questions of a file of demonstrations.
///
/// # Errors
/// The file cannot be opened.
pub fn questions(input: &Input) -> io::Result<Entries<Question>> {
    demonstrations(input, |row, Demonstration { line, sample }| Question {
        line,
        prompt: prompt(sample),
        item: item(row),
    })
}

fn prompt(sample: Sample) -> Prompt {
    match sample {
        Sample::Completion { prompt, .. } => Prompt::Text(prompt),
        Sample::Conversation(Conversation { mut messages, tools, parallel_tool_calls }) => {
            messages.pop();
            Prompt::Chat(Box::new(Conversation { messages, tools, parallel_tool_calls }))
        }
    }
}

fn item(row: &Row) -> Value {
    let fields = row.names().into_iter().filter_map(|name| Some((name.to_owned(), row.get(name)?.into_owned())));
    Value::Object(fields.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Prompt, Question, questions};
    use crate::dataset::Input;
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::report::DataFormat;

    fn read(text: &str, format: DataFormat) -> Vec<Question> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let entries = questions(&Input::new(file.path(), format)).unwrap();
        good(entries, &mut Ledger::default()).map(Result::unwrap).collect()
    }

    #[test]
    fn the_last_answer_is_what_is_asked_for_and_all_fields_are_there() {
        let row = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                         {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}],
                         "difficulty": 3, "none": null});
        let [question] = &read(&format!("\n{row}\n"), DataFormat::Jsonl)[..] else { panic!("one") };
        let Prompt::Chat(chat) = &question.prompt else { panic!("{question:?}") };
        assert_eq!((question.line, chat.messages.len(), chat.messages[2].content.as_deref()), (2, 3, Some("c")));
        assert_eq!((&question.item["difficulty"], &question.item["messages"]), (&json!(3), &row["messages"]));
        assert_eq!(question.item.get("none"), None);
    }

    #[test]
    fn tables_and_texts_that_go_on_have_questions_too() {
        let rows = "prompt,completion,topic\na b,c,x\n";
        let [question] = &read(rows, DataFormat::Csv)[..] else { panic!("one") };
        assert_eq!(question.prompt, Prompt::Text("a b".to_owned()));
        assert_eq!(question.item, json!({"prompt": "a b", "completion": "c", "topic": "x"}));
        let [question] = &read("{\"question\":\"a\",\"answer\":\"b\"}\n", DataFormat::Jsonl)[..] else { panic!("one") };
        let Prompt::Chat(chat) = &question.prompt else { panic!("{question:?}") };
        assert_eq!((chat.messages.len(), &question.item["answer"]), (1, &json!("b")));
    }
}
