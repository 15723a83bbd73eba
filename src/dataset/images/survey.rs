//! The report on a file of images, made on all cores.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use tokio_util::sync::CancellationToken;

use super::decode::{Head, decode, head, room};
use super::{ImageExample, Reading, open};
use crate::dataset::entries::{Ledger, good};
use crate::dataset::{Bounds, Input, MAX_LABELS, Room};
use crate::domain::report::{Contents, Counts, ExamplesReport, Faults, ImageStatistics, Labels};

/// Reads a file of labelled images and decodes every one. `on_example` sees each image as it is written, in order,
/// before it is decoded, and may add faults.
///
/// # Errors
/// The file cannot be read.
pub fn report(input: &Input, on_example: impl FnMut(&ImageExample, &mut Faults)) -> io::Result<ExamplesReport> {
    let check = |bytes: &[u8]| {
        let head = head(bytes)?;
        decode(bytes).map(|_| head)
    };
    examine(input, on_example, room, check)
}

/// The same without decoding: every image is read, its checksum, format, size and end are checked. An upload must
/// answer while its client waits, and this keeps up with the disk; a job decodes all images ([`report`]) before it
/// may run.
///
/// # Errors
/// The file cannot be read.
pub fn survey(input: &Input) -> io::Result<ExamplesReport> {
    examine(input, |_, _| {}, |_| 0, head)
}

/// `room` says what a check holds besides the image as it is written, in bytes.
fn examine(
    input: &Input,
    mut on_example: impl FnMut(&ImageExample, &mut Faults),
    room: impl Fn(&[u8]) -> u64,
    check: impl Fn(&[u8]) -> Result<Head, String> + Sync,
) -> io::Result<ExamplesReport> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Two images a core wait or are decoded, and the gate bounds what they hold.
    let (images, waiting) = sync_channel::<(ImageExample, Room)>(cores);
    let Bounds { stop, decoding, project } = &input.bounds;
    let waiting = Mutex::new(waiting);
    let (mut ledger, mut late, mut beyond_labels) = (Ledger::default(), Faults::default(), 0);
    let Reading { entries, notes } = open(input)?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| work(&waiting, stop, &check))).collect();
        let mut labels = HashSet::new();
        let feed = || -> io::Result<()> {
            for example in good(entries, &mut ledger) {
                let example = example?;
                if labels.len() < MAX_LABELS {
                    labels.insert(example.label.clone());
                } else if !labels.contains(&example.label) {
                    beyond_labels += 1;
                    if beyond_labels == 1 {
                        let message = format!("there are more than {MAX_LABELS} different labels");
                        late.push_at(&example.place, None, message);
                    }
                    continue;
                }
                on_example(&example, &mut late);
                let bytes = example.bytes.len() as u64 + room(&example.bytes);
                // Without room the reading has been stopped, and fails at the next image.
                if let Some(room) = decoding.enter(*project, bytes, stop) {
                    // It fails only when all workers are gone, which joining them tells.
                    let _ = images.send((example, room));
                }
            }
            Ok(())
        };
        let fed = feed();
        drop(images);
        let mut whole = Part::default();
        for worker in workers {
            whole.merge(worker.join().map_err(|_| io::Error::other("an image decoder failed"))?);
        }
        fed?;
        let labels = Labels { listed: whole.labels, others: None };
        let Ledger { faults, counts } = ledger;
        let faulty = counts.faulty + whole.faults.count + beyond_labels;
        Ok(ExamplesReport {
            examples: whole.examples,
            contents: Contents::Images { labels, images: whole.images },
            counts: Some(Counts { faulty, ..counts }),
            faults: whole.faults.merged(faults).merged(late),
            notes: notes(),
        })
    })
}

/// What one worker found.
#[derive(Default)]
struct Part {
    examples: u64,
    labels: BTreeMap<String, u64>,
    images: ImageStatistics,
    faults: Faults,
}

/// Checks images until there are no more. The faults are in the order of their lines, and of those that are listed
/// none is missing once the parts are merged: each part lists its first ones.
fn work(
    waiting: &Mutex<Receiver<(ImageExample, Room)>>,
    stop: &CancellationToken,
    check: impl Fn(&[u8]) -> Result<Head, String>,
) -> Part {
    let mut report = Part::default();
    loop {
        let next = waiting.lock().map_or(None, |waiting| waiting.recv().ok());
        let Some((example, _room)) = next else { return report };
        if stop.is_cancelled() {
            continue;
        }
        match check(&example.bytes) {
            Err(message) => report.faults.push_at(&example.place, None, message),
            Ok(head) => {
                let first = report.examples == 0;
                report.examples += 1;
                report.images.widths.add(u64::from(head.width), first);
                report.images.heights.add(u64::from(head.height), first);
                *report.images.formats.entry(head.kind.name().to_owned()).or_default() += 1;
                *report.labels.entry(example.label).or_default() += 1;
            }
        }
    }
}

impl Part {
    fn merge(&mut self, part: Self) {
        if part.examples > 0 {
            let first = self.examples == 0;
            for (whole, part) in
                [(&mut self.images.widths, part.images.widths), (&mut self.images.heights, part.images.heights)]
            {
                whole.add(part.min, first);
                whole.add(part.max, false);
            }
        }
        self.examples += part.examples;
        for (label, count) in part.labels {
            *self.labels.entry(label).or_default() += count;
        }
        for (format, count) in part.images.formats {
            *self.images.formats.entry(format).or_default() += count;
        }
        self.faults = std::mem::take(&mut self.faults).merged(part.faults);
    }
}
