//! What was found in a job's files, as events of the job.

use crate::domain::event::NewEvent;
use crate::domain::report::{DataReport, Part, Sightings, on_lines};

/// What the owner of the files should know, though they can be used.
pub fn findings(report: &DataReport) -> Vec<NewEvent> {
    let files = [
        (Part::Training, Some(&report.training)),
        (Part::Validation, report.validation.as_ref()),
        (Part::Test, report.test.as_ref()),
    ];
    let of_files = files.into_iter().filter_map(|(part, report)| Some((part, report?)));
    let notes = of_files.flat_map(|(part, report)| report.notes.iter().map(move |note| (Some(part), note)));
    let notes = notes.chain(report.notes.iter().map(|note| (None, note))).map(|(part, note)| {
        let what = part.map_or_else(String::new, |part| format!("The {} file: ", part.name()));
        let message = format!("{what}{}{}", note.message, on_lines(note.lines.len() as u64, &note.lines));
        if note.warning { NewEvent::warn(message) } else { NewEvent::info(message) }
    });
    let overlaps = report.overlaps.iter().flat_map(|one| {
        // What another file has is not used, so that it flatters no score.
        let is_dropped = match one.with {
            Part::Training => report.dropped.training > 0,
            Part::Validation => report.dropped.validation > 0,
            Part::Test => false,
        };
        let told = |seen: &Sightings, how: &str| {
            let message = format!(
                "{} {} examples {how} {} examples, so {} scores will look too good{}",
                seen.count,
                one.file.name(),
                one.with.name(),
                one.file.name(),
                on_lines(seen.count, &seen.lines)
            );
            (seen.count > 0).then(|| NewEvent::warn(message))
        };
        [told(&one.equal, "are also").filter(|_| !is_dropped), told(&one.near, "are nearly equal to")]
    });
    let dropped = [(Part::Training, report.dropped.training), (Part::Validation, report.dropped.validation)];
    let dropped = dropped.into_iter().filter(|(_, count)| *count > 0).map(|(part, count)| {
        NewEvent::info(format!("{count} {} examples are not used, since another file has them", part.name()))
    });
    notes.chain(overlaps.flatten()).chain(dropped).collect()
}
