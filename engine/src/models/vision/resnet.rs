//! ResNet (He et al. 2015, arXiv:1512.03385) as in Transformers' `ResNetModel`, with basic or bottleneck blocks.
//!
//! In bfloat16 activations are bfloat16 throughout, the residual stream too, and batch norms compute in float32: so
//! does Transformers under autocast.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::super::config::{COLOURS, INNER_WIDTH, LAYERS, WIDTH, check_numbers, default, number, read, refuse};
use super::architecture::{USUAL_SIDE, VisionConfig, VisionEncoder};
use super::torchvision::{is_torchvision, transformers_name};
use crate::error::Result;
use crate::nn::{BatchNorm2d, Conv2d, Mode, channels_last, global_average};
use crate::params::Builder;
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// By how much a bottleneck narrows.
const REDUCTION: i64 = 4;

/// The fields of `config.json` that the model reads.
#[derive(Clone, Debug, Deserialize)]
struct ResNetConfig {
    #[serde(default = "default::three")]
    num_channels: i64,
    embedding_size: i64,
    hidden_sizes: Vec<i64>,
    depths: Vec<i64>,
    layer_type: LayerType,
    #[serde(default = "relu")]
    hidden_act: String,
    #[serde(default)]
    downsample_in_first_stage: bool,
    /// Whether a bottleneck's stride is in its first convolution (as in the paper) or in its second.
    #[serde(default)]
    downsample_in_bottleneck: bool,
}

/// The block that the model repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LayerType {
    /// Two convolutions of 3 by 3.
    Basic,
    /// 1 by 1 to fewer channels, 3 by 3, 1 by 1.
    Bottleneck,
}

fn relu() -> String {
    "relu".to_owned()
}

/// Reads a `config.json` of the family.
pub(super) fn parse(json: &str) -> Result<VisionConfig> {
    let config: ResNetConfig = read(json)?;
    config.check()?;
    let hidden_size = config.hidden_sizes.last().copied().unwrap_or(config.embedding_size);
    // Each block keeps what its convolutions, norms and activations give: about five times its output.
    let kept = config.hidden_sizes.iter().zip(&config.depths).enumerate().map(|(stage, (&width, &depth))| {
        let side = u64::from(USUAL_SIDE / 4) >> stage;
        5 * side * side * width.unsigned_abs() * depth.unsigned_abs()
    });
    Ok(VisionConfig {
        backbone: Backbone::Convolutional,
        class: "ResNetForImageClassification",
        processor: "ConvNextImageProcessor",
        anatomy: Anatomy {
            backbone: "resnet",
            embeddings: &["embedder"],
            layers: number(config.depths.len() as i64),
            adapted: &[],
            ..Anatomy::default()
        },
        hidden_size,
        intermediate_size: 0,
        image_size: None,
        channels: config.num_channels,
        values_per_image: kept.sum(),
        // Transformers leaves `torch.nn.Linear`'s own uniform distribution between ±1/√D; this is its deviation.
        initializer_range: (3.0 * hidden_size as f64).sqrt().recip(),
        classifier: "classifier.1",
        saved_name: |all, name| if is_torchvision(all) { transformers_name(name) } else { name.to_owned() },
        module_name: None,
        encoder: Box::new(move |path| Ok(Box::new(ResNet::new(path, &config)?))),
    })
}

impl ResNetConfig {
    fn check(&self) -> Result<()> {
        const STAGES: usize = 16;
        if self.hidden_act != "relu" {
            return refuse("hidden_act", &self.hidden_act, "relu");
        }
        let stages = self.hidden_sizes.len();
        if !(1..=STAGES).contains(&stages) || stages != self.depths.len() {
            let found = format!("{:?} for depths {:?}", self.hidden_sizes, self.depths);
            return refuse("hidden_sizes", found, &format!("one size for each of 1 to {STAGES} depths"));
        }
        let narrowest = if self.layer_type == LayerType::Bottleneck { REDUCTION } else { 1 };
        let widths = narrowest..=*WIDTH.end();
        let sizes = self.hidden_sizes.iter().map(|&size| ("hidden_sizes", size, &widths));
        let depths = self.depths.iter().map(|&depth| ("depths", depth, &LAYERS));
        let others =
            [("embedding_size", self.embedding_size, &INNER_WIDTH), ("num_channels", self.num_channels, &COLOURS)];
        check_numbers(&sizes.chain(depths).chain(others).collect::<Vec<_>>())
    }
}

/// Convolution and batch norm: the names under which Transformers keeps each pair.
struct ConvNorm {
    convolution: Conv2d,
    normalization: BatchNorm2d,
}

impl ConvNorm {
    fn new(path: &Builder<'_, '_>, input: i64, output: i64, kernel: i64, stride: i64) -> Result<Self> {
        Ok(Self {
            convolution: Conv2d::new(&path.at("convolution"), input, output, kernel, stride)?,
            normalization: BatchNorm2d::new(&path.at("normalization"), output)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        self.normalization.forward(&self.convolution.forward(x)?, mode)
    }
}

/// A residual block: `relu(layer(x) + shortcut(x))`.
struct Block {
    layer: Vec<ConvNorm>,
    /// Where the block changes the shape; else the input itself is added.
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(path: &Builder<'_, '_>, config: &ResNetConfig, input: i64, output: i64, stride: i64) -> Result<Self> {
        let inner = output / REDUCTION;
        let (first, second) = if config.downsample_in_bottleneck { (stride, 1) } else { (1, stride) };
        // Input channels, output channels, kernel and stride of each convolution.
        let shapes = match config.layer_type {
            LayerType::Basic => vec![(input, output, 3, stride), (output, output, 3, 1)],
            LayerType::Bottleneck => {
                vec![(input, inner, 1, first), (inner, inner, 3, second), (inner, output, 1, 1)]
            }
        };
        let layer = shapes.into_iter().enumerate().map(|(i, (input, output, kernel, stride))| {
            ConvNorm::new(&path.at("layer").at(i), input, output, kernel, stride)
        });
        let layer = layer.collect::<Result<_>>()?;
        let shortcut = (input != output || stride != 1)
            .then(|| ConvNorm::new(&path.at("shortcut"), input, output, 1, stride))
            .transpose()?;
        Ok(Self { layer, shortcut })
    }

    /// What a norm gives is needed by nothing else, so additions and activations overwrite it.
    fn forward(&self, x: &Tensor, mode: &Mode) -> Result<Tensor> {
        let mut out = x.shallow_clone();
        for (i, layer) in self.layer.iter().enumerate() {
            out = layer.forward(&out, mode)?;
            if i + 1 < self.layer.len() {
                out = out.f_relu_()?;
            }
        }
        out = match &self.shortcut {
            Some(shortcut) => out.f_add_(&shortcut.forward(x, mode)?)?,
            None => out.f_add_(x)?,
        };
        Ok(out.f_relu_()?)
    }
}

/// Stem, stages of blocks, and the mean over the last feature map.
struct ResNet {
    embedder: ConvNorm,
    blocks: Vec<Block>,
    compute: Kind,
}

impl ResNet {
    /// The model at `path` (in checkpoints of task models: `resnet`).
    fn new(path: &Builder<'_, '_>, config: &ResNetConfig) -> Result<Self> {
        let embedder = path.at("embedder").at("embedder");
        let embedder = ConvNorm::new(&embedder, config.num_channels, config.embedding_size, 7, 2)?;
        let stages = path.at("encoder").at("stages");
        let mut blocks = Vec::new();
        let mut input = config.embedding_size;
        for (i, (&output, &depth)) in config.hidden_sizes.iter().zip(&config.depths).enumerate() {
            for j in 0..depth {
                let halves = j == 0 && (i > 0 || config.downsample_in_first_stage);
                let path = stages.at(i).at("layers").at(j);
                blocks.push(Block::new(&path, config, input, output, if halves { 2 } else { 1 })?);
                input = output;
            }
        }
        Ok(Self { embedder, blocks, compute: path.compute() })
    }
}

impl VisionEncoder for ResNet {
    fn features(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
        let pixels = channels_last(&pixels.f_to_kind(self.compute)?)?;
        let stem = self.embedder.forward(&pixels, mode)?.f_relu_()?;
        let mut x = stem.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        global_average(&x)
    }
}
