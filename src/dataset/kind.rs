//! What a kind of data is for whoever does not know which one it is.

use std::io;

use super::Input;
use super::split::held_out_of;
use crate::domain::clip::clipped;
use crate::domain::report::{DataFormat, ExamplesReport, Faults, Place, UploadKind};

/// One good example, as far as files are compared by it.
pub(super) struct Seen<'a> {
    pub(super) place: Place,
    /// The bytes that it is known by.
    pub(super) key: &'a [u8],
    pub(super) labels: &'a [String],
}

/// Sees each good example of a file, in order, and may add faults.
pub(super) type OnExample<'a> = dyn FnMut(&Seen<'_>, &mut Faults) + 'a;

/// A kind of data: how it is recognised, read, counted and judged.
pub(super) trait Kind {
    /// Whether a file whose first row has these fields can be of this kind.
    ///
    /// # Errors
    /// What is missing, in words for its owner.
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String>;

    /// Reads a whole file, and reports on it.
    ///
    /// # Errors
    /// The file cannot be read.
    fn report(&self, input: &Input, on_example: &mut OnExample<'_>) -> io::Result<ExamplesReport>;

    /// What the report on an upload calls it; None where uploads are not read as it at once.
    fn upload_kind(&self) -> Option<UploadKind> {
        None
    }

    /// Reads an upload whose first row has these fields, while its client waits; None where it looks otherwise.
    ///
    /// # Errors
    /// The file cannot be read.
    fn inspect(&self, _input: &Input, _there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        Ok(None)
    }

    /// Whether these examples, none of them faulty, can be trained on.
    ///
    /// # Errors
    /// Why not, in a sentence for their owner.
    fn check_training(&self, _report: &ExamplesReport) -> Result<(), String> {
        Ok(())
    }

    /// How many of the training examples are held out for validation.
    fn held_out(&self, report: &ExamplesReport, fraction: f64) -> u64 {
        held_out_of(report.examples, fraction)
    }
}

/// Whether there are two labels, between which something can be learned.
pub(super) fn check_labels(report: &ExamplesReport) -> Result<(), String> {
    if report.label_count() > 1 {
        return Ok(());
    }
    let only = report.labels().keys().next().map(|label| clipped(label)).unwrap_or_default();
    Err(format!("Training file has the one label \"{only}\"; classification needs at least two."))
}

/// How many are held out of examples with one label each: the same share of each label.
pub(super) fn held_out_of_each_label(report: &ExamplesReport, fraction: f64) -> u64 {
    report.labels().values().map(|&count| held_out_of(count, fraction)).sum()
}
