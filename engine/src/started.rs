//! What people are told when a run starts.

use crate::device::ComputeDevice;
use crate::observer::Observer;
use crate::tasks::Loaded;
use crate::training::RunProgress;
use finetuned::domain::hyperparameters::Precision;
use finetuned::domain::report::{Part, TokenLengths};
use finetuned::domain::run::{RunSpec, Started, TrainerMessage};

/// Tells what a run starts with, and what its owner should know of that.
pub(crate) fn report_start(
    spec: &RunSpec,
    device: ComputeDevice,
    precision: Precision,
    loaded: &Loaded,
    total_steps: u64,
    progress: &RunProgress,
    observer: &dyn Observer,
) {
    let data = &loaded.data;
    observer.report(TrainerMessage::Started(Started {
        device: device.name().to_owned(),
        precision,
        step: progress.step,
        total_steps,
        training_examples: data.training as u64,
        validation_examples: data.validation as u64,
        truncated: data.token_lengths.get(&Part::Training).map_or(0, |lengths| lengths.truncated),
        mean_tokens: data.tokens as f64 / data.training.max(1) as f64,
        token_lengths: data.token_lengths.clone(),
        parameters: loaded.table.count() as u64,
        trained_parameters: Some(loaded.table.trained_count() as u64),
    }));
    let notice = |warning, message| observer.report(TrainerMessage::Notice { warning, message });
    if !device.is_fast_in(precision) {
        notice(true, "This processor has no units for bf16 and computes it slowly; fp32 is faster here".to_owned());
    }
    if spec.hyperparameters.precision == Precision::Tf32 && precision != Precision::Tf32 {
        notice(false, "Processors have no TF32: the run computes in fp32".to_owned());
    }
    let longest = spec.hyperparameters.course.max_sequence_length;
    for (part, TokenLengths { lengths, truncated }) in data.token_lengths.iter().filter(|(_, one)| one.truncated > 0) {
        let share = 100.0 * *truncated as f64 / lengths.texts() as f64;
        let message = format!(
            "{truncated} {} texts were cut to {longest} tokens, {share:.1} % of them; a larger max_sequence_length keeps more, \
             as far as the model takes them",
            part.name()
        );
        notice(true, message);
    }
    if progress.step == 0 {
        let (trained, all) = (loaded.table.trained_count(), loaded.table.count());
        if trained < all {
            notice(false, format!("{trained} of {all} parameters are trained"));
        }
        let new = &loaded.report.initialised;
        if !new.is_empty() {
            notice(false, format!("Parameters that start anew: {}", new.join(", ")));
        }
        let unused: Vec<&str> =
            loaded.report.unused.iter().map(String::as_str).filter(|name| !name.ends_with("position_ids")).collect();
        if !unused.is_empty() {
            notice(false, format!("Tensors of the base model that are not used: {}", unused.join(", ")));
        }
    }
}
