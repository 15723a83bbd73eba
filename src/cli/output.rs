//! What commands say: their answers on standard output, where it is an error if they cannot be written, and remarks on
//! standard error, where it is none. `println!` would panic, and leave behind what the command had begun.

use std::io::{ErrorKind, Write};

use anyhow::Context as _;

/// Nobody reads the answer any more, as behind `head`: there is nobody to tell either.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the standard output")]
pub(super) struct Unread;

/// Writes an answer, all of it.
///
/// # Errors
/// It cannot be written; [`Unread`] if its reader is gone.
pub(super) fn answer(text: &str) -> anyhow::Result<()> {
    write(std::io::stdout().lock(), text)
}

fn write(mut out: impl Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Unread.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a line for the person at the terminal, if there is one.
pub(super) fn remark(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}

/// A text of an operator's as a terminal shows it, whatever is in it.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::{Unread, shown, write};

    #[test]
    fn an_answer_that_cannot_be_written_is_an_error() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let error = write(full, "answer\n").unwrap_err();
        assert!(!error.is::<Unread>() && format!("{error:#}").contains("standard output: No space left"), "{error:#}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(write(writer, "answer\n").unwrap_err().is::<Unread>());
        let mut written = Vec::new();
        write(&mut written, "answer\n").unwrap();
        assert_eq!(written, b"answer\n");
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nü"), "a\u{fffd}[2Jb\u{fffd}ü");
    }
}
