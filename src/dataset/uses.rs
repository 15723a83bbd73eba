//! Which methods can use a file, by the names of its fields and by what reading it found.

use super::images::IMAGE_COLUMN;
use super::labelled::{self, LABEL_COLUMNS};
use super::row::listed;
use super::rows::ARCHIVE;
use super::{images, pairs, texts};
use crate::domain::method::{METHODS, Method};
use crate::domain::report::{DataFormat, FileReport, MethodUse};

/// What a readable file can be used for. `there` are the names of the fields of its first row.
pub(super) fn uses(report: &FileReport, there: &[&str]) -> Vec<MethodUse> {
    METHODS
        .into_iter()
        .map(|method| {
            let reason = fits(method, report, there).err();
            MethodUse { method, usable: reason.is_none(), reason }
        })
        .collect()
}

fn fits(method: Method, report: &FileReport, there: &[&str]) -> Result<(), String> {
    let is_archive = matches!(report.format, DataFormat::Zip | DataFormat::Tar);
    if is_archive && method != Method::ImageClassification {
        return Err(ARCHIVE.to_owned());
    }
    let faults = match method {
        Method::TextClassification => {
            labelled::fits(there)?;
            report.text_classification.as_ref().map(|found| &found.faults)
        }
        Method::ImageClassification => {
            match report.format {
                DataFormat::Zip | DataFormat::Tar => {}
                DataFormat::Jsonl => labelled_images(there)?,
                DataFormat::Csv | DataFormat::Text => return Err(images::NO_IMAGES.to_owned()),
            }
            report.image_classification.as_ref().map(|found| &found.faults)
        }
        Method::MaskedLm => return texts::fits(there),
        Method::Embedding => return pairs::fits(there),
    };
    match faults {
        Some(faults) if !faults.is_empty() => Err(format!("{} faults: {}", faults.count, faults.summary())),
        _ => Ok(()),
    }
}

fn labelled_images(there: &[&str]) -> Result<(), String> {
    let missing = |what: &str| Err(format!("there is no {what}; found {}", listed(there)));
    if !there.contains(&IMAGE_COLUMN) {
        return missing(&format!("\"{IMAGE_COLUMN}\""));
    }
    if !LABEL_COLUMNS.into_iter().any(|name| there.contains(&name)) {
        return missing(&format!("label column ({})", listed(&LABEL_COLUMNS)));
    }
    Ok(())
}
