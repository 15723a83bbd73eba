//! ResNet, ViT and DeiT against Transformers, and what batch norms add to parameters: buffers.

use std::collections::{BTreeMap, HashMap};

use finetuned::domain::hyperparameters::LrSchedule;
use finetuned_engine::models::vision::{ImageClassifier, VisionConfig, transformers_name};
use finetuned_engine::nn::Mode;
use finetuned_engine::optim::{AdamW, AdamWConfig, Schedule};
use finetuned_engine::params::{self, Init, LoadReport, ParamTable};
use finetuned_engine::weights::{self, Weights};
use tch::{Device, Kind, Tensor};

use super::support::{
    BF16, CLASSES, FP32, Tolerance, assert_close, assert_within, difference, golden, golden_path, loss, test_device,
};

const MODELS: [&str; 5] = ["resnet_basic", "resnet_bottleneck", "resnet_paper", "vit", "deit"];
/// Images of a batch, their side, and the steps of a curve, as in `vision_models.py`.
const BATCH: i64 = 8;
const SIDE: i64 = 32;
const STEPS: u64 = 20;

fn config_json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(golden_path("vision_configs.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()[name].take()
}

fn config(name: &str) -> VisionConfig {
    let mut json = config_json(name);
    for dropout in ["hidden_dropout_prob", "attention_probs_dropout_prob"] {
        json[dropout] = 0.0.into();
    }
    VisionConfig::parse(&json.to_string()).unwrap()
}

/// The noise of `vision_models.py`: `[B, 3, H, W]`.
fn images(step: u64) -> Tensor {
    let size = (BATCH * 3 * SIDE * SIDE).unsigned_abs();
    let values: Vec<f32> = (step * size..(step + 1) * size)
        .map(|place| {
            let mixed = (place * 1_103_515_245 + 12345) % (1 << 31);
            (((mixed * mixed) >> 15) % 65536) as f32 / 32768.0 - 1.0
        })
        .collect();
    Tensor::from_slice(&values).view([BATCH, 3, SIDE, SIDE]).to_device(test_device())
}

fn labels(step: u64) -> Tensor {
    let classes = (0..BATCH.unsigned_abs()).map(|row| ((7 * step + 3 * row) % CLASSES.unsigned_abs()) as i64);
    Tensor::from_slice(&classes.collect::<Vec<_>>())
}

/// The tensors of a golden file under `prefix`, each called what `rename` makes of its name.
fn part(golden: &HashMap<String, Tensor>, prefix: &str, rename: impl Fn(&str) -> String) -> BTreeMap<String, Tensor> {
    let named = golden.iter().filter_map(|(name, tensor)| Some((rename(name.strip_prefix(prefix)?), tensor)));
    named.map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
}

fn built(
    config: &VisionConfig,
    weights: &Weights,
    kind: Kind,
    head: Init,
) -> Result<(ImageClassifier, ParamTable, LoadReport), String> {
    params::build(weights, params::Placement::new(test_device(), kind, 0), |root| {
        ImageClassifier::new(root, config, CLASSES, head)
    })
    .map_err(|error| error.to_string())
}

/// A classifier from a checkpoint of these tensors, which must be exactly what it needs.
fn load(config: &VisionConfig, tensors: &BTreeMap<String, Tensor>, kind: Kind) -> (ImageClassifier, ParamTable) {
    let folder = tempfile::tempdir().unwrap();
    weights::write(&folder.path().join("model.safetensors"), tensors).unwrap();
    let weights = config.open_weights(folder.path()).unwrap();
    let (model, table, report) = built(config, &weights, kind, Init::Normal(0.02)).unwrap();
    assert!(report.initialised.is_empty() && report.unused.is_empty(), "{report:?}");
    (model, table)
}

fn classifier(name: &str, kind: Kind) -> (HashMap<String, Tensor>, ImageClassifier, ParamTable) {
    let golden = golden(&format!("vision_{name}"));
    let (model, table) = load(&config(name), &part(&golden, "weight.", str::to_owned), kind);
    (golden, model, table)
}

/// The keys' bias cannot change a softmax: its gradient is rounding noise around 0 on both sides.
fn is_noise(name: &str) -> bool {
    name.ends_with("key.bias")
}

/// A parameter's gradient: its name, ours, and what it should be.
type Gradient<'a> = (String, Tensor, &'a Tensor);

/// The values of some gradients as one vector each: ours, and what they should be.
fn vectors(gradients: &[&Gradient<'_>]) -> (Tensor, Tensor) {
    let flat = |pick: &dyn Fn(&Gradient<'_>) -> Tensor| {
        let parts = gradients.iter().map(|gradient| pick(gradient).to_kind(Kind::Double).flatten(0, -1));
        Tensor::cat(&parts.collect::<Vec<_>>(), 0)
    };
    (flat(&|gradient| gradient.1.to_device(Device::Cpu)), flat(&|gradient| gradient.2.copy()))
}

/// How far the direction of the gradient of all parameters is from what it should be: 1 - cosine.
fn turn(gradients: &[Gradient<'_>]) -> f64 {
    let (ours, theirs) = vectors(&gradients.iter().collect::<Vec<_>>());
    1.0 - Tensor::cosine_similarity(&ours, &theirs, 0, 1e-12).double_value(&[])
}

/// The layer that a parameter is a part of: a convolution or linear layer with its norm.
fn layer_of(parameter: &str) -> &str {
    parameter.rsplitn(3, '.').last().unwrap_or(parameter)
}

/// The layer whose gradient is furthest from what it should be, and how far: the norm of the difference over the norm of
/// the layer. No gradient at all would be 1, and one of opposite sign 2.
fn furthest_layer(gradients: &[Gradient<'_>]) -> (f64, String) {
    let mut layers: BTreeMap<&str, Vec<&Gradient<'_>>> = BTreeMap::new();
    for gradient in gradients {
        layers.entry(layer_of(&gradient.0)).or_default().push(gradient);
    }
    let distances = layers.into_iter().map(|(layer, gradients)| {
        let (ours, theirs) = vectors(&gradients);
        ((ours - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[]), layer.to_owned())
    });
    distances.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap()
}

/// The gradient that is furthest from what it should be, each relative to its own largest value.
fn furthest(gradients: &[Gradient<'_>]) -> (f64, String) {
    let distances = gradients.iter().filter(|(name, ..)| !is_noise(name));
    let distances = distances.map(|(name, ours, theirs)| (difference(ours, theirs), name.clone()));
    distances.max_by(|one, other| one.0.total_cmp(&other.0)).unwrap()
}

fn compare(name: &str, tolerance: &Tolerance, largest_turn: f64, distance: fn(&[Gradient<'_>]) -> (f64, String)) {
    let (golden, model, table) = classifier(name, tolerance.kind);
    let step = golden["step"].int64_value(&[]).unsigned_abs();
    let pixels = images(step);
    let evaluated = tch::no_grad(|| model.forward(&pixels, &Mode::eval()).unwrap());
    assert_close(&evaluated, &golden["eval_logits"], tolerance.logits, &format!("logits of {name}, evaluated"));

    let logits = model.forward(&pixels, &Mode::train(1)).unwrap();
    assert_close(&logits, &golden["logits"], tolerance.logits, &format!("logits of {name}"));
    let loss = loss(&logits, &labels(step));
    assert_close(&loss.reshape([1]), &golden["loss"], tolerance.losses, &format!("loss of {name}"));
    loss.backward();
    let mut gradients = Vec::new();
    for param in table.iter() {
        for (part, grad) in param.split(&param.grad().unwrap()).unwrap() {
            assert!(!is_noise(part) || grad.abs().max().double_value(&[]) < 1e-3, "{part}");
            gradients.push((part.to_owned(), grad, &golden[&format!("grad.{part}")]));
        }
    }
    assert_eq!(gradients.len(), golden.keys().filter(|name| name.starts_with("grad.")).count(), "every parameter");
    let (far, what) = distance(&gradients);
    assert_within(far, tolerance.gradients, &format!("gradient of {what} in {name}"));
    assert_within(turn(&gradients), largest_turn, &format!("turn of the gradient of {name}"));

    let named = table.named().unwrap();
    for (buffer, expected) in part(&golden, "after.", str::to_owned) {
        assert_eq!(named[&buffer].kind(), expected.kind(), "{buffer}");
        assert_close(&named[&buffer], &expected, tolerance.logits, &format!("{buffer} of {name} after a step"));
    }
}

#[test]
fn logits_gradients_and_statistics_are_those_of_transformers() {
    for name in MODELS {
        compare(name, &FP32, 1e-6, furthest);
    }
}

/// Rounding to bfloat16 flips some of a ResNet's activations, so single gradients may be any: PyTorch's own under autocast
/// differ by up to 1.1 of their largest value here, and their direction together turns by up to 0.1 (measured). Whole
/// layers stay nearer: 0.17 of their norm (basic), 0.47 (bottleneck) and 0.62 (the paper's), ours on a CPU.
#[test]
fn bfloat16_stays_near_float32() {
    for name in MODELS {
        let (logits, gradients, turn) = match name {
            "vit" | "deit" => (5e-2, 0.3, 0.01),
            "resnet_basic" => (5e-2, 0.4, 0.1),
            "resnet_paper" => (8e-2, 0.85, 0.2),
            _ => (5e-2, 0.8, 0.1),
        };
        compare(name, &Tolerance { logits, gradients, losses: 5e-2, ..BF16 }, turn, furthest_layer);
    }
}

#[test]
fn a_layer_without_gradient_or_with_its_opposite_is_found() {
    let golden = golden("vision_resnet_basic");
    let wrong = "resnet.encoder.stages.1.layers.0.layer.0";
    for (factor, expected) in [(0.0, 1.0), (-1.0, 2.0), (0.9, 0.1)] {
        let gradients = golden.iter().filter_map(|(name, gradient)| {
            let name = name.strip_prefix("grad.")?;
            let ours = if layer_of(name) == wrong { gradient * factor } else { gradient.copy() };
            Some((name.to_owned(), ours, gradient))
        });
        let (distance, layer) = furthest_layer(&gradients.collect::<Vec<_>>());
        assert_eq!(layer, wrong);
        assert!((distance - expected).abs() < 1e-6, "{distance}");
    }
}

#[test]
fn names_shapes_and_types_are_those_that_transformers_saves() {
    for name in MODELS {
        let (golden, _, table) = classifier(name, Kind::Float);
        let shape = |(name, tensor): (String, Tensor)| (name, tensor.size(), tensor.kind());
        let ours: Vec<_> = table.named().unwrap().into_iter().map(shape).collect();
        let theirs: Vec<_> = part(&golden, "weight.", str::to_owned).into_iter().map(shape).collect();
        assert_eq!(ours, theirs, "{name}");
        let floats: usize = golden.iter().filter(|(name, _)| name.starts_with("grad.")).map(|(_, t)| t.numel()).sum();
        assert_eq!(table.count(), floats, "buffers are not parameters");
    }
}

/// Twenty steps of model, gradient, clipping, schedule and update together.
fn twenty_steps(name: &str, tolerance: &Tolerance) -> ParamTable {
    let curve = golden(&format!("vision_{name}_curve"));
    let first = curve["step"].int64_value(&[]).unsigned_abs();
    let (_, model, mut table) = classifier(name, tolerance.kind);
    let mut optimizer = AdamW::new(&table, AdamWConfig::new(0.01, 1.0)).unwrap();
    let schedule = Schedule { kind: LrSchedule::Linear, peak: 2e-3, warmup_steps: 3, total_steps: STEPS };
    let [losses, norms] = ["losses", "norms"].map(|what| Vec::<f32>::try_from(&curve[what]).unwrap());
    for step in 0..STEPS {
        let loss = loss(&model.forward(&images(first + step), &Mode::train(step)).unwrap(), &labels(first + step));
        loss.backward();
        let norm = optimizer.grad_norm(&table).unwrap();
        optimizer.step(&mut table, schedule.learning_rate(step), &norm).unwrap();
        for (what, value, expected) in [("loss", &loss, &losses), ("norm", &norm, &norms)] {
            let expected = f64::from(expected[step as usize]);
            let difference = (value.double_value(&[]) - expected).abs() / expected;
            assert_within(difference, tolerance.losses, &format!("{what} of {name} at step {step}"));
        }
    }
    table
}

#[test]
fn a_loss_curve_of_twenty_steps_is_that_of_pytorch() {
    // With strides like the paper's, the stem's biases have no gradient but rounding, which AdamW makes large.
    for name in MODELS.into_iter().filter(|name| *name != "resnet_paper") {
        let curve = golden(&format!("vision_{name}_curve"));
        let named = twenty_steps(name, &FP32).named().unwrap();
        let finals = part(&curve, "final.", str::to_owned);
        assert_eq!(finals.len(), named.len());
        for (tensor, expected) in finals {
            if !is_noise(&tensor) {
                assert_close(&named[&tensor], &expected, 1e-4, &format!("{tensor} of {name} at the end"));
            }
        }
    }
}

#[test]
fn gradients_lie_in_memory_as_their_parameters() {
    for (name, kind) in [("resnet_basic", Kind::Float), ("resnet_bottleneck", Kind::BFloat16)] {
        let (_, model, mut table) = classifier(name, kind);
        for accumulate in [false, true] {
            loss(&model.forward(&images(0), &Mode::train(0)).unwrap(), &labels(0)).backward();
            if accumulate {
                table.accumulate_grads().unwrap();
            }
            for param in table.iter() {
                let grad = param.grad().unwrap();
                assert!(grad.is_contiguous() && param.master.is_contiguous(), "{}", param.parts[0].0);
            }
        }
    }
}

fn copies(table: &ParamTable) -> BTreeMap<String, Tensor> {
    table.named().unwrap().into_iter().map(|(name, tensor)| (name, tensor.to_device(Device::Cpu).copy())).collect()
}

#[test]
fn buffers_change_in_training_only_and_survive_a_save() {
    let (_, model, table) = classifier("resnet_basic", Kind::Float);
    let start = copies(&table);
    drop(model.features(&images(0), &Mode::eval()).unwrap());
    assert_eq!(copies(&table), start);
    for step in 0..3 {
        drop(model.features(&images(step), &Mode::train(step)).unwrap());
    }
    let trained = copies(&table);
    let changed = trained.iter().filter(|(name, tensor)| **tensor != start[*name]).count();
    assert_eq!(changed, trained.keys().filter(|name| name.contains("running_") || name.contains("num_")).count());
    assert_eq!(trained["resnet.embedder.embedder.normalization.num_batches_tracked"].int64_value(&[]), 1003);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights::write(&path, &trained).unwrap();
    for (name, tensor) in Tensor::read_safetensors(&path).unwrap() {
        let kind = if name.ends_with("num_batches_tracked") { Kind::Int64 } else { Kind::Float };
        assert_eq!(tensor.kind(), kind, "{name}");
    }
    let (_, fresh, mut restored) = classifier("resnet_basic", Kind::Float);
    restored.restore(&Weights::open_file(&path).unwrap()).unwrap();
    assert_eq!(copies(&restored), trained);
    let again = |model: &ImageClassifier| model.forward(&images(5), &Mode::eval()).unwrap();
    assert_eq!(again(&fresh), again(&model));
}

#[test]
fn a_checkpoint_without_counters_or_with_odd_statistics() {
    let golden = golden("vision_resnet_basic");
    let mut tensors = part(&golden, "weight.", str::to_owned);
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let (model, table) = load(&config("resnet_basic"), &tensors, Kind::Float);
    drop(model.features(&images(0), &Mode::train(0)).unwrap());
    assert_eq!(copies(&table)["resnet.embedder.embedder.normalization.num_batches_tracked"].int64_value(&[]), 1);

    let folder = tempfile::tempdir().unwrap();
    let error = |tensors: &BTreeMap<String, Tensor>| {
        weights::write(&folder.path().join("model.safetensors"), tensors).unwrap();
        let config = config("resnet_basic");
        let weights = config.open_weights(folder.path()).unwrap();
        built(&config, &weights, Kind::Float, Init::Normal(0.02)).err().unwrap()
    };
    let name = "resnet.embedder.embedder.normalization.running_var";
    let kept = tensors.remove(name).unwrap();
    assert_eq!(error(&tensors), format!("the model has no tensor {name}"));
    tensors.insert(name.to_owned(), kept.to_kind(Kind::Int64));
    assert!(error(&tensors).contains("has type I64; use float32"));
    tensors.insert(name.to_owned(), kept);
    let counter = "resnet.embedder.embedder.normalization.num_batches_tracked";
    tensors.insert(counter.to_owned(), Tensor::from(3.0_f32));
    assert!(error(&tensors).contains("has type F32; use int64"));
}

/// What torchvision calls a tensor that Transformers calls `name`.
fn torchvision_name(name: &str) -> String {
    let (module, what) = name.rsplit_once('.').unwrap();
    let parts: Vec<&str> = module.split('.').collect();
    let number = |text: &str| text.parse::<usize>().unwrap() + 1;
    let module = match parts[..] {
        ["classifier", "1"] => "fc".to_owned(),
        ["resnet", "embedder", "embedder", "convolution"] => "conv1".to_owned(),
        ["resnet", "embedder", "embedder", "normalization"] => "bn1".to_owned(),
        ["resnet", "encoder", "stages", stage, "layers", block, "shortcut", kind] => {
            format!("layer{}.{block}.downsample.{}", number(stage), usize::from(kind == "normalization"))
        }
        ["resnet", "encoder", "stages", stage, "layers", block, "layer", layer, kind] => {
            let kind = if kind == "normalization" { "bn" } else { "conv" };
            format!("layer{}.{block}.{kind}{}", number(stage), number(layer))
        }
        _ => panic!("{name}"),
    };
    format!("{module}.{what}")
}

#[test]
fn torchvisions_names_are_understood() {
    for (theirs, ours) in [
        ("conv1.weight", "resnet.embedder.embedder.convolution.weight"),
        ("bn1.running_var", "resnet.embedder.embedder.normalization.running_var"),
        ("layer1.0.conv1.weight", "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"),
        ("layer4.2.bn3.bias", "resnet.encoder.stages.3.layers.2.layer.2.normalization.bias"),
        ("layer2.0.downsample.0.weight", "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight"),
        (
            "layer2.0.downsample.1.num_batches_tracked",
            "resnet.encoder.stages.1.layers.0.shortcut.normalization.num_batches_tracked",
        ),
        ("fc.bias", "classifier.1.bias"),
        ("layer0.0.conv1.weight", "layer0.0.conv1.weight"),
        ("optimizer", "optimizer"),
    ] {
        assert_eq!(transformers_name(theirs), ours);
    }
    for name in ["resnet_basic", "resnet_bottleneck"] {
        let (golden, model, _) = classifier(name, Kind::Float);
        let (same, _) = load(&config(name), &part(&golden, "weight.", torchvision_name), Kind::Float);
        let logits = |model: &ImageClassifier| model.forward(&images(3), &Mode::eval()).unwrap();
        assert_eq!(logits(&same), logits(&model));
    }
}

#[test]
fn the_module_names_of_transformers_5_are_understood() {
    for name in ["vit", "deit"] {
        let (golden, model, table) = classifier(name, Kind::Float);
        let renamed = part(&golden, "weight.", |name| {
            name.replace("encoder.layer.", "layers.")
                .replace("attention.attention.query", "attention.q_proj")
                .replace("attention.attention.key", "attention.k_proj")
                .replace("attention.attention.value", "attention.v_proj")
                .replace("attention.output.dense", "attention.o_proj")
                .replace("intermediate.dense", "mlp.fc1")
                .replace("output.dense", "mlp.fc2")
        });
        assert!(renamed.keys().any(|name| name.ends_with("layers.1.mlp.fc2.weight")));
        let (same, same_table) = load(&config(name), &renamed, Kind::Float);
        assert_eq!(copies(&same_table), copies(&table));
        let logits = |model: &ImageClassifier| model.forward(&images(3), &Mode::eval()).unwrap();
        assert_eq!(logits(&same), logits(&model));
    }
}

#[test]
fn base_models_get_a_new_classifier() {
    for (folder, head, unused) in [
        ("tiny-resnet", "classifier.1", &[][..]),
        ("tiny-vit", "classifier", &["vit.pooler.dense.bias", "vit.pooler.dense.weight"][..]),
    ] {
        let folder = golden_path(folder);
        let json = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = VisionConfig::parse(&json).unwrap();
        let weights = config.open_weights(&folder).unwrap();
        let head_init = Init::Fresh(config.initializer_range());
        let (model, table, report) = built(&config, &weights, Kind::Float, head_init).unwrap();
        assert_eq!(report.initialised, [format!("{head}.weight"), format!("{head}.bias")]);
        assert_eq!(report.unused, unused);
        assert_eq!(copies(&table)[&format!("{head}.weight")].size(), [CLASSES, config.hidden_size()]);
        assert_eq!(model.features(&images(0), &Mode::eval()).unwrap().size(), [BATCH, config.hidden_size()]);
    }
}

#[test]
fn what_a_model_is_called_and_takes() {
    let facts = |name: &str| {
        let config = config(name);
        (config.architecture(), config.base_prefix(), config.hidden_size(), config.image_size(), config.channels())
    };
    assert_eq!(facts("resnet_basic"), ("ResNetForImageClassification", "resnet", 24, None, 3));
    assert_eq!(facts("vit"), ("ViTForImageClassification", "vit", 16, Some(32), 3));
    assert_eq!(facts("deit"), ("DeiTForImageClassification", "deit", 16, Some(32), 3));
    assert_eq!(config("vit").initializer_range(), 0.02);
    // The deviation of a uniform distribution between ±1/√24.
    assert!((config("resnet_basic").initializer_range() - 1.0 / (24.0_f64 * 3.0).sqrt()).abs() < 1e-12);
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let zeros = |shape: [i64; 4]| Tensor::zeros(shape, (Kind::Float, test_device()));
    let (_, vit, _) = classifier("vit", Kind::Float);
    let error = vit.features(&zeros([2, 3, 32, 40]), &Mode::eval()).unwrap_err().to_string();
    assert!(error.contains("image_size 32") && error.contains("32 by 40"), "{error}");
    assert!(vit.features(&zeros([2, 1, 32, 32]), &Mode::eval()).unwrap_err().to_string().contains("3 channels"));

    let (_, resnet, table) = classifier("resnet_basic", Kind::Float);
    assert_eq!(resnet.features(&zeros([1, 3, 50, 30]), &Mode::eval()).unwrap().size(), [1, 24]);
    drop(resnet.features(&zeros([2, 3, 8, 8]), &Mode::train(0)).unwrap());
    let error = resnet.features(&zeros([1, 3, 8, 8]), &Mode::train(0)).unwrap_err();
    assert_eq!(error.job_error().param.as_deref(), Some("hyperparameters.batch_size"));
    assert!(copies(&table).values().all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1));
}

#[test]
fn a_config_that_asks_for_what_is_not_built_is_refused_by_name() {
    for (name, field, value, says) in [
        ("vit", "model_type", "swin".into(), "model_type is swin; supported: resnet, vit, deit"),
        ("vit", "hidden_act", "quick_gelu".into(), "hidden_act is quick_gelu"),
        ("vit", "num_attention_heads", 5.into(), "num_attention_heads"),
        ("deit", "patch_size", 5.into(), "patch_size is 5; supported: a divisor of image_size"),
        ("deit", "image_size", serde_json::json!([32, 48]), "image_size"),
        ("vit", "image_size", 0.into(), "image_size is 0"),
        ("vit", "num_hidden_layers", 0.into(), "num_hidden_layers"),
        ("vit", "num_channels", 0.into(), "num_channels is 0"),
        ("resnet_basic", "layer_type", "preactivation".into(), "layer_type"),
        ("resnet_basic", "hidden_act", "silu".into(), "hidden_act is silu; supported: relu"),
        ("resnet_basic", "hidden_sizes", serde_json::json!([16]), "hidden_sizes is [16]"),
        ("resnet_basic", "depths", serde_json::json!([1, 0]), "depths"),
        ("resnet_bottleneck", "hidden_sizes", serde_json::json!([2, 32]), "hidden_sizes is 2; supported: 4 to 65536"),
        ("resnet_basic", "embedding_size", 0.into(), "embedding_size is 0"),
    ] {
        let mut json = config_json(name);
        json[field] = value;
        let error = VisionConfig::parse(&json.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(VisionConfig::parse("{}").unwrap_err().to_string().contains("model_type"));
    let error = VisionConfig::parse(r#"{"model_type": "vit"}"#).unwrap_err().to_string();
    assert!(error.contains("hidden_size"), "{error}");
}
