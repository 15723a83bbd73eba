//! What readers of data files have in common: they give a file's entries one after the other, the good ones and the
//! faulty ones, and end with an error where the file itself cannot be read.

use std::io;

use crate::domain::report::{Fault, Faults};

/// An entry of a data file: a line, a row, a member of an archive, or what was made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<E> {
    Good(E),
    /// What is wrong with it.
    Faulty(Vec<Fault>),
}

/// The entries of a file, in order. None follows an error.
pub type Entries<E> = Box<dyn Iterator<Item = io::Result<Entry<E>>>>;

impl<E> Entry<E> {
    /// One with a fault that is no single field's.
    pub(super) fn fault(line: u64, message: impl Into<String>) -> Self {
        Self::Faulty(vec![Fault::new(line, None, message)])
    }
}

/// What becomes of an entry that is read further.
pub(super) enum Step<E> {
    To(Entry<E>),
    /// It is no entry of what is wanted.
    PassOver,
    /// What is wrong with it is wrong with all that follow.
    End(Fault),
}

impl<E> Step<E> {
    pub(super) fn good(example: E) -> Self {
        Self::To(Entry::Good(example))
    }

    pub(super) fn faulty(fault: Fault) -> Self {
        Self::To(Entry::Faulty(vec![fault]))
    }
}

/// Reads the good entries further; the faulty ones stay as they are.
pub(super) fn further<A: 'static, E>(
    mut entries: impl Iterator<Item = io::Result<Entry<A>>> + 'static,
    mut step: impl FnMut(A) -> io::Result<Step<E>> + 'static,
) -> Entries<E> {
    let mut is_over = false;
    Box::new(std::iter::from_fn(move || {
        while !is_over {
            let stepped = match entries.next()? {
                Ok(Entry::Good(entry)) => step(entry),
                Ok(Entry::Faulty(faults)) => return Some(Ok(Entry::Faulty(faults))),
                Err(error) => Err(error),
            };
            match stepped {
                Ok(Step::PassOver) => {}
                Ok(Step::To(entry)) => return Some(Ok(entry)),
                Ok(Step::End(fault)) => {
                    is_over = true;
                    return Some(Ok(Entry::Faulty(vec![fault])));
                }
                Err(error) => {
                    is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }))
}

/// The entries of a file of which there is nothing to say but this.
pub(super) fn nothing_but<E: 'static>(fault: Fault) -> Entries<E> {
    Box::new(std::iter::once(Ok(Entry::Faulty(vec![fault]))))
}

/// The good entries; what is wrong with the others is added to `faults`.
pub fn good<E>(
    entries: impl Iterator<Item = io::Result<Entry<E>>>,
    faults: &mut Faults,
) -> impl Iterator<Item = io::Result<E>> {
    entries.filter_map(|entry| match entry {
        Ok(Entry::Good(entry)) => Some(Ok(entry)),
        Ok(Entry::Faulty(found)) => {
            faults.extend(found);
            None
        }
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Entry, Step, further, good};
    use crate::domain::report::{Fault, Faults};

    fn fault(line: u64) -> Fault {
        Fault::new(line, None, "is odd")
    }

    /// Numbers, of which odd ones are faulty, 4 is passed over, and 6 is the last.
    fn numbers(last: Option<io::Error>) -> super::Entries<u64> {
        let all = (1..=8).map(|n| Ok(if n % 2 == 1 { Entry::Faulty(vec![fault(n)]) } else { Entry::Good(n) }));
        let all = all.collect::<Vec<_>>().into_iter().take(if last.is_some() { 3 } else { 8 }).chain(last.map(Err));
        further(all, |n| {
            Ok(match n {
                4 => Step::PassOver,
                6 => Step::End(Fault::new(n, None, "ends it")),
                n => Step::good(10 * n),
            })
        })
    }

    #[test]
    fn entries_keep_their_order_and_a_fault_may_end_them() {
        let all: Vec<_> = numbers(None).map(Result::unwrap).collect();
        let end = Fault::new(6, None, "ends it");
        let faulty = |fault| Entry::Faulty(vec![fault]);
        assert_eq!(all, [faulty(fault(1)), Entry::Good(20), faulty(fault(3)), faulty(fault(5)), faulty(end)]);
    }

    #[test]
    fn good_entries_leave_the_faults_of_the_others_behind_and_nothing_follows_an_error() {
        let mut faults = Faults::default();
        let numbers: Vec<_> = good(numbers(Some(io::Error::other("the disk"))), &mut faults).collect();
        assert_eq!(numbers.len(), 2);
        assert_eq!(*numbers[0].as_ref().unwrap(), 20);
        assert!(numbers[1].is_err());
        assert_eq!(faults.listed.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 3]);
    }
}
