//! What a kind of data is for whoever does not know which one it is.

use std::io;

use super::Input;
use crate::domain::clip::clipped;
use crate::domain::report::{DataFormat, ExamplesReport, Faults, Place, UploadKind};

/// What an example is known by.
pub struct Seen<'a> {
    pub line: u64,
    pub print: u64,
    /// Its texts, folded, without those that many examples have around theirs; None of images.
    pub folded: Option<&'a str>,
    pub labels: &'a [String],
    pub value: Option<f64>,
}

/// Whoever looks on while a file is read.
pub trait Watch {
    /// Sees each good example, in order, and may add faults.
    fn example(&mut self, place: &Place, labels: &[String], faults: &mut Faults);

    /// Whether it wants to know by what examples are known.
    fn compares(&self) -> bool;

    /// Sees what each good example is known by, in order, if it wants to.
    fn known(&mut self, seen: &Seen<'_>);
}

/// Nobody.
impl Watch for () {
    fn example(&mut self, _place: &Place, _labels: &[String], _faults: &mut Faults) {}

    fn compares(&self) -> bool {
        false
    }

    fn known(&mut self, _seen: &Seen<'_>) {}
}

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
    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport>;

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

    /// Whether the same share of each label is held out for validation.
    fn is_stratified(&self) -> bool {
        false
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
