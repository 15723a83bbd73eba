//! The data files of a run, read once more after they were validated.

use std::io;

use crate::error::{EngineError, Result};
use crate::observer::Observer;
use finetuned::dataset::Input;
use finetuned::dataset::entries::{Entries, Entry};
use finetuned::domain::report::Faults;
use finetuned::domain::run::DataFile;

/// The examples of a data file. Where it has faults, and so is not as it was when the job was validated, an error that
/// tells of all of them is the last item.
pub struct Examples<'a, E> {
    file: &'a DataFile,
    /// The field of the request that named the file.
    param: &'static str,
    entries: Entries<E>,
    faults: Faults,
    observer: &'a dyn Observer,
}

impl<'a, E> Examples<'a, E> {
    /// What `read` finds in the file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(
        file: &'a DataFile,
        param: &'static str,
        observer: &'a dyn Observer,
        read: impl FnOnce(&Input) -> io::Result<Entries<E>>,
    ) -> Result<Self> {
        let entries = read(&Input { options: file.options.clone(), ..Input::new(&file.path, file.format) })
            .map_err(EngineError::io(&file.path))?;
        Ok(Self { file, param, entries, faults: Faults::default(), observer })
    }
}

impl<E> Iterator for Examples<'_, E> {
    type Item = Result<E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.next() {
                Some(Ok(Entry::Good(example))) => {
                    self.observer.alive();
                    return Some(Ok(example));
                }
                Some(Ok(Entry::Faulty(faults))) => self.faults.extend(faults),
                Some(Ok(Entry::Broken(fault))) => self.faults.extend([fault]),
                Some(Ok(Entry::Skipped(_) | Entry::End(_))) => {}
                Some(Err(error)) => return Some(Err(EngineError::io(&self.file.path)(error))),
                None if self.faults.is_empty() => return None,
                None => {
                    let message = std::mem::take(&mut self.faults).summary();
                    return Some(Err(EngineError::Data { param: self.param, message }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Examples;
    use crate::error::EngineError;
    use crate::observer::Observer;
    use finetuned::dataset::texts;
    use finetuned::domain::job::ReadOptions;
    use finetuned::domain::report::DataFormat;
    use finetuned::domain::run::{DataFile, TrainerCommand, TrainerMessage};

    struct Silent;

    impl Observer for Silent {
        fn report(&self, _: TrainerMessage) {}

        fn stop(&self) -> Option<TrainerCommand> {
            None
        }
    }

    #[test]
    fn faults_are_told_together_behind_the_examples() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"text\": \"a\"}\n[1]\n{\"text\": 5}\n{\"text\": \"b\"}\n").unwrap();
        let data = DataFile {
            path: file.path().to_owned(),
            format: DataFormat::Jsonl,
            options: ReadOptions::default(),
            sha256: String::new(),
        };
        let mut texts = Examples::open(&data, "training_file", &Silent, texts::read).unwrap();
        for expected in ["a", "b"] {
            assert_eq!(texts.next().unwrap().unwrap().text, expected);
        }
        let Some(Err(EngineError::Data { param, message })) = texts.next() else { panic!("the faults are not told") };
        let why = "line 2: expected a JSON object, found an array; line 3, text: must be a string, not a number";
        assert_eq!((param, message.as_str()), ("training_file", why));
        assert!(texts.next().is_none());
    }
}
