//! Any bytes as rows of conversations and of preferences: read or refused, never a panic; what is read ends with the assistant,
//! and what JSON it holds is JSON.
#![no_main]

use std::io::Write;

use finetuned::dataset::Input;
use finetuned::dataset::chats::{self, Sample};
use finetuned::dataset::entries::{Ledger, good};
use finetuned::dataset::preferences::{self, Choice};
use finetuned::domain::chat::{Message, Role};
use finetuned::domain::report::DataFormat;
use libfuzzer_sys::fuzz_target;

const FORMATS: [DataFormat; 3] = [DataFormat::Jsonl, DataFormat::Json, DataFormat::Csv];

fn check(messages: &[Message], tools: &[String]) {
    assert_eq!(messages.last().map(|message| message.role), Some(Role::Assistant));
    let calls = messages.iter().flat_map(|message| &message.tool_calls).map(|call| &call.arguments);
    for json in calls.chain(tools) {
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok_and(|value| value.is_object()));
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    let input = Input::new(file.path(), FORMATS[usize::from(first) % FORMATS.len()]);
    let mut ledger = Ledger::default();
    for one in good(chats::read(&input).expect("a file that is there can be read"), &mut ledger) {
        if let Sample::Conversation(talk) = one.expect("a row").sample {
            check(&talk.messages, &talk.tools);
        }
    }
    for one in good(preferences::read(&input).expect("a file that is there can be read"), &mut ledger) {
        match one.expect("a row").choice {
            Choice::Conversation { input, preferred, non_preferred } => {
                assert_ne!(preferred, non_preferred);
                check(&preferred, &input.tools);
                check(&non_preferred, &[]);
            }
            Choice::Completion { preferred, non_preferred, .. } => assert_ne!(preferred, non_preferred),
        }
    }
});
