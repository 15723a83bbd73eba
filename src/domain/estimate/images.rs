//! Memory of the decoded images that a run keeps.

use super::super::model::ModelFacts;
use super::super::report::{DataReport, ExamplesReport};

/// Bytes of decoded pixels that a run keeps of its training images, and of the images of each other file, at most.
pub const TRAINING_PIXELS: u64 = 1 << 30;
pub const OTHER_PIXELS: u64 = 256 << 20;

/// The shorter side of an image that is kept for varied training is at most so many times the model's.
const KEPT_SIDE: f64 = 8.0 / 7.0;

/// Bytes of decoded pixels that a run keeps, whose training images are varied or not; 0 for models of texts.
pub(super) fn kept_pixels(model: &ModelFacts, is_varied: bool, data: &DataReport) -> u64 {
    if model.image_size == 0 {
        return 0;
    }
    let seen = bytes(f64::from(model.image_size).powi(2));
    let of_training = if is_varied { varied(model, &data.training) } else { seen };
    let training = of_training * data.training_examples() as f64;
    let others = [data.held_out, examples(data.validation.as_ref()), examples(data.test.as_ref())];
    let others = others.map(|count| (seen * count as f64).min(OTHER_PIXELS as f64));
    (training.min(TRAINING_PIXELS as f64) + others.iter().sum::<f64>()) as u64
}

fn examples(report: Option<&ExamplesReport>) -> u64 {
    report.map_or(0, |report| report.examples)
}

fn bytes(pixels: f64) -> f64 {
    3.0 * pixels
}

/// Bytes of an image of middling size as it is kept for varied training.
fn varied(model: &ModelFacts, training: &ExamplesReport) -> f64 {
    let Some(images) = training.images() else { return 0.0 };
    let middle = |range: super::super::report::MinMax| 0.5 * (range.min + range.max) as f64;
    let (width, height) = (middle(images.widths).max(1.0), middle(images.heights).max(1.0));
    let shrunk = (KEPT_SIDE * f64::from(model.image_size) / width.min(height)).min(1.0);
    bytes(width * height * shrunk * shrunk)
}

#[cfg(test)]
mod tests {
    use super::{OTHER_PIXELS, TRAINING_PIXELS, kept_pixels};
    use crate::domain::model::ModelFacts;
    use crate::domain::report::{Contents, DataReport, ImageStatistics, Labels, MinMax};

    fn data(images: u64, side: u64) -> DataReport {
        let mut data = DataReport { held_out: images / 10, ..DataReport::default() };
        let range = MinMax { min: side, max: side };
        data.training.examples = images;
        let images = ImageStatistics { widths: range, heights: range, ..ImageStatistics::default() };
        data.training.contents = Contents::Images { labels: Labels::default(), images };
        data
    }

    #[test]
    fn small_sets_are_kept_whole_and_large_ones_up_to_the_budgets() {
        let model = ModelFacts { image_size: 224, ..ModelFacts::default() };
        let (plain, varied) = (false, true);
        assert_eq!(kept_pixels(&model, plain, &data(100, 1000)), 100 * 224 * 224 * 3);
        // Nine tenths at 256 pixels a side, the rest as an evaluation sees them.
        assert_eq!(kept_pixels(&model, varied, &data(100, 1000)), 90 * 256 * 256 * 3 + 10 * 224 * 224 * 3);
        assert_eq!(kept_pixels(&model, varied, &data(100, 100)), 90 * 100 * 100 * 3 + 10 * 224 * 224 * 3);
        assert_eq!(kept_pixels(&model, varied, &data(1_000_000, 1000)), TRAINING_PIXELS + OTHER_PIXELS);
        assert_eq!(kept_pixels(&ModelFacts::default(), varied, &data(100, 1000)), 0);
    }
}
