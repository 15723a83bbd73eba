//! The report on a file of images, made on all cores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio_util::sync::CancellationToken;

use super::decode::{Head, decode, head, room};
use super::{ImageExample, read};
use crate::dataset::entries::{Ledger, good};
use crate::dataset::kind::{Seen, Watch};
use crate::dataset::prints::of_image;
use crate::dataset::{Bounds, Input, MAX_LABELS, Room, spelling};
use crate::domain::method::ProblemType;
use crate::domain::report::{Contents, Counts, ExamplesReport, Faults, ImageStatistics, Labels, Sightings};

/// Reads a file of labelled images and decodes every one. `watch` sees each image in order before it is decoded, and its
/// pixels' print afterwards.
///
/// # Errors
/// The file cannot be read.
pub fn report(input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
    let compares = watch.compares();
    let check = |bytes: &[u8]| {
        let head = head(bytes)?;
        let image = decode(bytes)?;
        Ok((head, compares.then(|| of_image(&image))))
    };
    examine(input, watch, room, check)
}

/// The same without decoding: every image is read, its checksum, format, size and end are checked. An upload must
/// answer while its client waits, and this keeps up with the disk; a job decodes all images ([`report`]) before it
/// may run.
///
/// # Errors
/// The file cannot be read.
pub fn survey(input: &Input) -> io::Result<ExamplesReport> {
    examine(input, &mut (), |_| 0, |bytes| Ok((head(bytes)?, None)))
}

/// `room` says what a check holds besides the image as it is written, in bytes.
fn examine(
    input: &Input,
    watch: &mut dyn Watch,
    room: impl Fn(&[u8]) -> u64,
    check: impl Fn(&[u8]) -> Result<(Head, Option<u64>), String> + Sync,
) -> io::Result<ExamplesReport> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Two images a core wait or are decoded, and the gate bounds what they hold.
    let (images, waiting) = sync_channel::<(ImageExample, Room)>(cores);
    let Bounds { stop, decoding, project, .. } = &input.bounds;
    let waiting = Mutex::new(waiting);
    let (mut ledger, mut late, mut beyond_labels) = (Ledger::default(), Faults::default(), 0);
    let mut tidied = Sightings::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| work(&waiting, stop, &check))).collect();
        let mut labels = HashSet::new();
        let mut feed = || -> io::Result<()> {
            for example in good(read(input)?, &mut ledger) {
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
                if example.is_tidied {
                    tidied.add(example.place.line);
                }
                watch.example(&example.place, std::slice::from_ref(&example.label), &mut late);
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
        whole.prints.sort_unstable_by_key(|(line, ..)| *line);
        for (line, print, label) in &whole.prints {
            let labels = std::slice::from_ref(label.as_ref());
            watch.known(&Seen { line: *line, print: *print, folded: None, labels, value: None });
        }
        let labels = Labels { listed: whole.labels, others: None };
        let Ledger { faults, counts, notes } = ledger;
        let faulty = counts.faulty + whole.faults.count + beyond_labels;
        let mut report = ExamplesReport {
            examples: whole.examples,
            contents: Contents::Images { labels, images: whole.images },
            languages: BTreeMap::new(),
            counts: Some(Box::new(Counts { faulty, ..counts })),
            faults: whole.faults.merged(faults).merged(late),
            notes,
        };
        report.notes.extend(spelling::tidied(&tidied));
        report.notes.extend(spelling::notes(&report, ProblemType::SingleLabelClassification));
        Ok(report)
    })
}

/// What one worker found.
#[derive(Default)]
struct Part {
    examples: u64,
    labels: BTreeMap<String, u64>,
    images: ImageStatistics,
    faults: Faults,
    /// Line, print and label of each good image, where they are compared.
    prints: Vec<(u64, u64, Arc<String>)>,
}

/// Checks images until there are no more. The faults are in the order of their lines, and of those that are listed
/// none is missing once the parts are merged: each part lists its first ones.
fn work(
    waiting: &Mutex<Receiver<(ImageExample, Room)>>,
    stop: &CancellationToken,
    check: impl Fn(&[u8]) -> Result<(Head, Option<u64>), String>,
) -> Part {
    let (mut report, mut shared) = (Part::default(), HashMap::<String, Arc<String>>::new());
    loop {
        let next = waiting.lock().map_or(None, |waiting| waiting.recv().ok());
        let Some((example, _room)) = next else { return report };
        if stop.is_cancelled() {
            continue;
        }
        match check(&example.bytes) {
            Err(message) => report.faults.push_at(&example.place, None, message),
            Ok((head, print)) => {
                let first = report.examples == 0;
                report.examples += 1;
                report.images.widths.add(u64::from(head.width), first);
                report.images.heights.add(u64::from(head.height), first);
                *report.images.formats.entry(head.kind.name().to_owned()).or_default() += 1;
                if let Some(print) = print {
                    let label = shared.entry(example.label.clone()).or_insert_with_key(|label| Arc::new(label.clone()));
                    report.prints.push((example.place.line, print, Arc::clone(label)));
                }
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
        self.prints.extend(part.prints);
        for (label, count) in part.labels {
            *self.labels.entry(label).or_default() += count;
        }
        for (format, count) in part.images.formats {
            *self.images.formats.entry(format).or_default() += count;
        }
        self.faults = std::mem::take(&mut self.faults).merged(part.faults);
    }
}
