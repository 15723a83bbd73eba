//! Classifiers and regressions of inputs of any kind: the loss, the head on what a frozen backbone makes of the data, and
//! what is said of each example.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::ahead::each;
use super::classifying;
use super::examples::{ExampleTable, observed};
use super::loss::Loss;
use super::outputs::{Outputs, most_rows};
use super::task::{Batch, Counts, Forward, Task, on_device};
use crate::data::examples::Targets;
use crate::data::source::{BatchSource, Pick, Subset, View};
use crate::data::splits::Splits;
use crate::error::{EngineError, Result};
use crate::nn::Mode;
use crate::observer::Observer;
use crate::score::Evaluation;
use crate::vision::mix::Mix;
use finetuned::domain::metric::ACCURACY;
use finetuned::domain::report::Place;

/// Labelled inputs of one kind, in host memory.
pub(super) trait Inputs: Send + Sync + 'static {
    /// Inputs of a batch.
    type Packed: Send + 'static;

    fn targets(&self) -> &Targets;

    /// The number of examples.
    fn len(&self) -> usize;

    /// Tokens of these examples; images have none.
    fn tokens(&self, examples: &[usize]) -> u64;

    /// The examples of each batch of an evaluation, at most `most` of them.
    fn groups(&self, most: usize) -> Vec<Vec<usize>>;

    /// The inputs of these examples as epoch `epoch` varies them, or as they are.
    ///
    /// # Errors
    /// An example cannot be read any more.
    fn pack(&self, examples: &[usize], epoch: Option<u64>) -> Result<Self::Packed>;

    /// Where an example stands in its file.
    fn place(&self, example: usize) -> Place;

    /// Threads that packing keeps busy.
    fn threads() -> usize {
        1
    }

    /// How the inputs were mixed with others of their batch, if they were.
    fn mix(_packed: &Self::Packed) -> Option<Mix> {
        None
    }
}

/// A model that makes features of inputs, and logits of features.
pub(super) trait FeatureClassifier<P> {
    /// Inputs where the model computes.
    type OnDevice;

    /// Moves inputs there.
    fn on_device(packed: &P, device: Device) -> Result<Self::OnDevice>;

    /// What the head reads of each input: `[S, D]`.
    fn features(&self, inputs: &Self::OnDevice, mode: &Mode) -> Result<Tensor>;

    /// Logits `[S, C]` in float32 from features.
    fn head(&self, features: &Tensor, mode: &Mode) -> Result<Tensor>;
}

/// The data of a run.
pub(super) struct Labelled<I> {
    pub(super) splits: Splits<I>,
    /// The most examples of an evaluation batch: few, where each has many logits.
    pub(super) most: usize,
}

/// Examples, and their inputs where they are needed.
pub(super) struct LabelledBatch<P> {
    examples: Vec<usize>,
    subset: Subset,
    inputs: Option<P>,
}

/// A classifier or regression with its data.
pub(super) struct ClassificationTask<I: Inputs, M> {
    model: M,
    device: Device,
    labels: Vec<String>,
    source: Arc<Labelled<I>>,
    loss: Loss,
    /// Whether the backbone stays as it is.
    frozen: bool,
    /// `[N, D]`: what a frozen backbone makes of the training and of the validation data, where it is kept.
    kept: [Option<Tensor>; 2],
}

impl<I: Inputs> Labelled<I> {
    /// With labels that an output is there for each of.
    pub(super) fn new(splits: Splits<I>, labels: usize) -> Self {
        Self { splits, most: most_rows(labels) }
    }
}

impl<I: Inputs> BatchSource for Labelled<I> {
    type Batch = LabelledBatch<I::Packed>;

    fn size(&self, subset: Subset) -> usize {
        self.splits.get(subset).len()
    }

    fn groups(&self, subset: Subset) -> Vec<Vec<usize>> {
        self.splits.get(subset).groups(self.most)
    }

    fn make(&self, pick: &Pick) -> Result<Self::Batch> {
        let pack = || self.splits.get(pick.subset).pack(&pick.examples, pick.view.epoch());
        let inputs = (pick.view != View::Known).then(pack).transpose()?;
        Ok(LabelledBatch { examples: pick.examples.clone(), subset: pick.subset, inputs })
    }

    fn threads(&self) -> usize {
        I::threads()
    }
}

impl<I: Inputs, M: FeatureClassifier<I::Packed>> ClassificationTask<I, M> {
    /// A task that trains all that its model has to train.
    pub(super) fn new(model: M, device: Device, labels: &[String], data: Labelled<I>, loss: Loss) -> Self {
        let (source, labels) = (Arc::new(data), labels.to_vec());
        Self { model, device, labels, source, loss, frozen: false, kept: [None, None] }
    }

    /// The same with a backbone that stays as it is: what it makes of validation data, and of training data that look the
    /// same in each epoch, is computed once, of as many examples as `most` at the most.
    ///
    /// # Errors
    /// An example cannot be read any more, or libtorch fails.
    pub(super) fn frozen(mut self, is_varied: bool, most: usize, observer: &dyn Observer) -> Result<Self> {
        self.frozen = true;
        let keep = |subset| match self.source.size(subset) {
            size if (1..=most).contains(&size) => self.compute(subset, observer),
            _ => Ok(None),
        };
        let training = if is_varied { None } else { keep(Subset::Training)? };
        let validation = keep(Subset::Validation)?;
        Ok(Self { kept: [training, validation], ..self })
    }

    /// `[N, D]`: what the backbone makes of a subset; None if the run shall stop.
    fn compute(&self, subset: Subset, observer: &dyn Observer) -> Result<Option<Tensor>> {
        let _guard = tch::no_grad_guard();
        let (mut rows, mut order) = (Vec::new(), Vec::new());
        let seen_all = each(&self.source, subset, View::Plain, observer, |batch: LabelledBatch<I::Packed>| {
            if let Some(inputs) = &batch.inputs {
                rows.push(self.model.features(&M::on_device(inputs, self.device)?, &Mode::eval())?);
            }
            order.extend(batch.examples);
            Ok(())
        })?;
        if !seen_all {
            return Ok(None);
        }
        let computed = Tensor::f_cat(&rows, 0)?;
        Ok(Some(computed.f_zeros_like()?.f_index_copy(0, &places(&order, self.device)?, &computed)?))
    }

    fn kept(&self, subset: Subset) -> Option<&Tensor> {
        match subset {
            Subset::Training => self.kept[0].as_ref(),
            Subset::Validation => self.kept[1].as_ref(),
            Subset::Test => None,
        }
    }

    /// Logits `[S, C]` in float32.
    fn logits(&self, shown: &Shown<M::OnDevice>, mode: &Mode) -> Result<Tensor> {
        let features = match shown {
            Shown::Known(features) => features.shallow_clone(),
            Shown::Whole(inputs) if self.frozen => tch::no_grad(|| self.model.features(inputs, &Mode::eval()))?,
            Shown::Whole(inputs) => self.model.features(inputs, mode)?,
        };
        self.model.head(&features, mode)
    }

    fn targets(&self, subset: Subset, examples: &[usize]) -> Result<Tensor> {
        self.loss.targets(self.source.splits.get(subset).targets(), examples, self.device)
    }
}

/// Int64 `[S]` on `device`.
fn places(examples: &[usize], device: Device) -> Result<Tensor> {
    let places: Vec<i64> = examples.iter().map(|&example| example as i64).collect();
    on_device(&places, device)
}

/// Inputs on the device, or what the backbone made of them, `[S, D]`.
enum Shown<T> {
    Whole(T),
    Known(Tensor),
}

/// A batch on the device.
pub(super) struct LabelledInputs<T> {
    shown: Shown<T>,
    targets: Tensor,
    /// Where inputs are mixed with others of the batch: the targets of these, and float32 `[2]`, the share of their own target
    /// and of the other one.
    mixed: Option<(Tensor, Tensor)>,
}

impl<I: Inputs, M: FeatureClassifier<I::Packed>> Task for ClassificationTask<I, M> {
    type Data = Labelled<I>;
    type Inputs = LabelledInputs<M::OnDevice>;
    type Outputs<'a>
        = Outputs<'a>
    where
        Self: 'a;

    fn source(&self) -> &Arc<Labelled<I>> {
        &self.source
    }

    fn count(&self, examples: &[usize], _epoch: u64) -> f64 {
        self.loss.weight(self.source.splits.training.targets(), examples)
    }

    fn knows(&self, subset: Subset) -> bool {
        self.kept(subset).is_some()
    }

    fn counts(&self, batch: &Batch<Self>) -> Counts {
        let (training, examples) = (&self.source.splits.training, &batch.examples);
        Counts { tokens: training.tokens(examples), whole: examples.len() as f64 }
    }

    fn inputs(&self, batch: &Batch<Self>) -> Result<Self::Inputs> {
        let (examples, subset) = (&batch.examples, batch.subset);
        let shown = match (self.kept(subset), &batch.inputs) {
            (Some(kept), _) => Shown::Known(kept.f_index_select(0, &places(examples, self.device)?)?),
            (None, Some(inputs)) => Shown::Whole(M::on_device(inputs, self.device)?),
            (None, None) => return Err(EngineError::native("a batch has no inputs")),
        };
        let mixed = batch.inputs.as_ref().and_then(I::mix).map(|mix| {
            let partners: Vec<usize> =
                (0..examples.len()).map(|index| examples[Mix::partner(index, examples.len())]).collect();
            let shares = [mix.lambda() as f32, (1.0 - mix.lambda()) as f32];
            Ok::<_, EngineError>((self.targets(subset, &partners)?, on_device(&shares, self.device)?))
        });
        Ok(LabelledInputs { shown, targets: self.targets(subset, examples)?, mixed: mixed.transpose()? })
    }

    fn forward(&self, inputs: &Self::Inputs, mode: &Mode) -> Result<Forward> {
        let LabelledInputs { shown, targets, mixed } = inputs;
        let logits = self.logits(shown, mode)?;
        let parts = match self.source.splits.training.targets() {
            Targets::Classes(_) => {
                let right = tch::no_grad(|| logits.f_argmax(1, false)?.f_eq_tensor(targets)?.f_sum(Kind::Int64))?;
                vec![(ACCURACY, right)]
            }
            Targets::Sets(_) | Targets::Values(_) => Vec::new(),
        };
        let mut loss_sum = self.loss.sum(&logits, targets)?;
        // What is said of a mixed image is said of two.
        let seen = if mixed.is_none() { Some(observed(&self.loss, &logits, targets)?) } else { None };
        if let Some((others, shares)) = mixed {
            // Cross-entropy is linear in its target, so mixed targets are mixed losses.
            let other = self.loss.sum(&logits, others)?;
            loss_sum = loss_sum.f_mul(&shares.f_get(0)?)?.f_add(&other.f_mul(&shares.f_get(1)?)?)?;
        }
        Ok(Forward { loss_sum, parts, seen })
    }

    fn examples(&self) -> Option<ExampleTable> {
        let training = &self.source.splits.training;
        Some(ExampleTable::new((0..training.len()).map(|example| training.place(example)), training.targets()))
    }

    fn begin(&self, subset: Subset) -> Outputs<'_> {
        let inputs = self.source.splits.get(subset);
        Outputs::new(&self.labels, inputs.targets(), inputs.len())
    }

    fn add(&self, outputs: &mut Outputs<'_>, batch: &Batch<Self>) -> Result<()> {
        let LabelledInputs { shown, targets, .. } = self.inputs(batch)?;
        let logits = self.logits(&shown, &Mode::eval())?;
        outputs.add(&batch.examples, &logits, &self.loss.each(&logits, &targets)?)
    }

    fn score<'a>(
        &'a self,
        subset: Subset,
        outputs: Outputs<'a>,
        intervals: Option<&dyn Observer>,
    ) -> Option<Evaluation<'a>> {
        let inputs = self.source.splits.get(subset);
        classifying::evaluate(outputs, Box::new(|example| inputs.place(example)), intervals)
    }
}
