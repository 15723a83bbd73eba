//! What readers of data files have in common: they give a file's entries one after the other, the good ones and the
//! faulty ones, and end with an error where the file itself cannot be read.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use crate::domain::report::{Counts, Fault, Faults, Lines, Note};

/// An entry of a data file: a line, a row, a member of an archive, or what was made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<E> {
    Good(E),
    /// What is wrong with it.
    Faulty(Vec<Fault>),
    /// What is wrong with the file, so that nothing behind it can be read.
    Broken(Fault),
    /// It is passed over, and counted as this.
    Skipped(Cow<'static, str>),
    /// Comes last where a file was read to its end.
    End(Box<Ending>),
}

/// The last word of whoever read a file to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// None where a file has no lines.
    pub lines: Option<Lines>,
    pub notes: Vec<Note>,
}

/// The entries of a file, in order. None follows an error.
pub type Entries<E> = Box<dyn Iterator<Item = io::Result<Entry<E>>>>;

impl<E> Entry<E> {
    fn map<F>(self, change: impl FnOnce(E) -> F) -> Entry<F> {
        match self {
            Self::Good(entry) => Entry::Good(change(entry)),
            Self::Faulty(faults) => Entry::Faulty(faults),
            Self::Broken(fault) => Entry::Broken(fault),
            Self::Skipped(what) => Entry::Skipped(what),
            Self::End(ending) => Entry::End(ending),
        }
    }

    fn as_good(&self) -> Option<&E> {
        if let Self::Good(entry) = self { Some(entry) } else { None }
    }

    /// One with a fault that is no single field's.
    pub(super) fn fault(line: u64, message: impl Into<String>) -> Self {
        Self::Faulty(vec![Fault::new(line, None, message)])
    }
}

/// What becomes of an entry that is read further.
pub(super) enum Step<E> {
    To(Entry<E>),
    /// It is no entry at all.
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
                Ok(Entry::Broken(fault)) => return Some(Ok(Entry::Broken(fault))),
                Ok(Entry::Skipped(what)) => return Some(Ok(Entry::Skipped(what))),
                Ok(Entry::End(ending)) => return Some(Ok(Entry::End(ending))),
                Err(error) => Err(error),
            };
            match stepped {
                Ok(Step::PassOver) => {}
                Ok(Step::To(entry)) => return Some(Ok(entry)),
                Ok(Step::End(fault)) => {
                    is_over = true;
                    return Some(Ok(Entry::Broken(fault)));
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

/// How many rows are looked at before anything is settled, and how many bytes of them: no row decides for the others.
pub(super) const BLOCK_ROWS: usize = 1000;
const BLOCK_BYTES: usize = 4 << 20;

/// What `settle` makes of a file's first good entries, the same that [`settled`] shows it.
///
/// # Errors
/// The file cannot be read.
pub(super) fn settle_first<A, S>(
    mut entries: Entries<A>,
    weigh: fn(&A) -> usize,
    settle: impl FnOnce(&[&A]) -> S,
) -> io::Result<S> {
    loop {
        let block = fill(&mut entries, weigh).into_iter().collect::<io::Result<Vec<_>>>()?;
        let good: Vec<&A> = block.iter().filter_map(Entry::as_good).collect();
        if !good.is_empty() || block.is_empty() {
            return Ok(settle(&good));
        }
    }
}

/// Reads the good entries further by what `settle` makes of the first ones, which are then read like the rest. `weigh`
/// says how many bytes an entry has. What `settle` finds wrong is wrong with the whole file; its notes are told at the end.
pub(super) fn settled<A: 'static, S: 'static, E: 'static>(
    mut entries: Entries<A>,
    weigh: fn(&A) -> usize,
    settle: impl FnOnce(&[&A]) -> Result<(S, Vec<Note>), Fault> + 'static,
    mut step: impl FnMut(&S, A) -> io::Result<Step<E>> + 'static,
) -> Entries<E> {
    let (mut settle, mut found, mut notes) = (Some(settle), None, Vec::new());
    let (mut block, mut is_over) = (VecDeque::new(), false);
    let first = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        if found.is_none() && block.is_empty() {
            block = fill(&mut entries, weigh);
            let good: Vec<&A> = block.iter().flatten().filter_map(Entry::as_good).collect();
            if let Some(settle) = settle.take_if(|_| !good.is_empty()) {
                match settle(&good) {
                    Ok((what, told)) => (found, notes) = (Some(Rc::new(what)), told),
                    Err(fault) => {
                        is_over = true;
                        return Some(Ok(Entry::Broken(fault)));
                    }
                }
            }
        }
        let entry = block.pop_front().or_else(|| entries.next())?;
        Some(entry.map(|entry| match entry {
            Entry::End(mut ending) => {
                ending.notes.append(&mut notes);
                Entry::End(ending)
            }
            entry => entry.map(|entry| (found.clone(), entry)),
        }))
    });
    further(first, move |(found, entry)| found.map_or(Ok(Step::PassOver), |found| step(&found, entry)))
}

/// The next entries, as many as are looked at together.
fn fill<A>(entries: &mut Entries<A>, weigh: fn(&A) -> usize) -> VecDeque<io::Result<Entry<A>>> {
    let (mut block, mut bytes) = (VecDeque::new(), 0);
    while block.len() < BLOCK_ROWS && bytes < BLOCK_BYTES {
        let Some(entry) = entries.next() else { break };
        bytes += entry.iter().filter_map(Entry::as_good).map(weigh).sum::<usize>();
        block.push_back(entry);
    }
    block
}

/// The entries of a file of which there is nothing to say but this.
pub(super) fn nothing_but<E: 'static>(fault: Fault) -> Entries<E> {
    Box::new(std::iter::once(Ok(Entry::Broken(fault))))
}

/// What there is to say of a file's entries besides the good ones.
#[derive(Debug, Default)]
pub struct Ledger {
    pub faults: Faults,
    pub counts: Counts,
    pub notes: Vec<Note>,
}

/// The good entries; what became of the others is written in `ledger`.
pub fn good<E>(
    entries: impl Iterator<Item = io::Result<Entry<E>>>,
    ledger: &mut Ledger,
) -> impl Iterator<Item = io::Result<E>> {
    let Ledger { faults, counts, notes } = ledger;
    entries.filter_map(|entry| match entry {
        Ok(Entry::Good(entry)) => {
            counts.rows += 1;
            Some(Ok(entry))
        }
        Ok(Entry::Faulty(found)) => {
            counts.rows += 1;
            counts.faulty += 1;
            faults.extend(found);
            None
        }
        Ok(Entry::Broken(fault)) => {
            faults.extend([fault]);
            None
        }
        Ok(Entry::Skipped(what)) => {
            counts.skip(&what);
            None
        }
        Ok(Entry::End(ending)) => {
            counts.lines = ending.lines;
            notes.extend(ending.notes);
            None
        }
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{Entry, Ledger, Step, further, good, settled};
    use crate::domain::report::Fault;

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
    fn what_is_settled_is_settled_by_many_and_the_first_ones_are_read_like_the_rest() {
        let all =
            || Box::new((1..=2500).map(|n| Ok(if n <= 1200 { Entry::Faulty(vec![fault(n)]) } else { Entry::Good(n) })));
        let read = |wrong: bool| {
            let settle = move |first: &[&u64]| if wrong { Err(fault(1)) } else { Ok((first.len(), Vec::new())) };
            settled(all(), |_| 1, settle, |&seen, n| Ok(Step::good((seen, n)))).map(Result::unwrap).collect::<Vec<_>>()
        };
        let read_on = read(false);
        assert_eq!((read_on.len(), &read_on[1199]), (2500, &Entry::Faulty(vec![fault(1200)])));
        // The first thousand hold none that is good.
        assert_eq!((&read_on[1200], &read_on[2499]), (&Entry::Good((800, 1201)), &Entry::Good((800, 2500))));
        assert_eq!(read(true)[1000..], [Entry::Broken(fault(1))]);
    }

    #[test]
    fn entries_keep_their_order_and_a_fault_may_end_them() {
        let all: Vec<_> = numbers(None).map(Result::unwrap).collect();
        let end = Fault::new(6, None, "ends it");
        let faulty = |fault| Entry::Faulty(vec![fault]);
        assert_eq!(all, [faulty(fault(1)), Entry::Good(20), faulty(fault(3)), faulty(fault(5)), Entry::Broken(end)]);
    }

    #[test]
    fn good_entries_leave_the_faults_of_the_others_behind_and_nothing_follows_an_error() {
        let mut ledger = Ledger::default();
        let numbers: Vec<_> = good(numbers(Some(io::Error::other("the disk"))), &mut ledger).collect();
        assert_eq!(numbers.len(), 2);
        assert_eq!(*numbers[0].as_ref().unwrap(), 20);
        assert!(numbers[1].is_err());
        assert_eq!(ledger.faults.listed.iter().map(|fault| fault.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((ledger.counts.rows, ledger.counts.faulty), (3, 2));
    }
}
