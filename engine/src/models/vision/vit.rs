//! ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) and DeiT (Touvron et al. 2020, arXiv:2012.12877) as in
//! Transformers' `ViTModel` and `DeiTModel`, on packed batches: the tokens of `B` images are `B` sequences.
//!
//! Pre-norm encoder with learned positions and the residual stream in float32. Left out: interpolated positions for
//! other image sizes, and masked patches.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::super::config::{
    Activation, COLOURS, INNER_WIDTH, LAYERS, PIXELS, WIDTH, activation, check_dropouts, check_heads, check_numbers,
    default, number, read, refuse,
};
use super::architecture::{VisionConfig, VisionEncoder};
use crate::error::Result;
use crate::nn::{Heads, LayerNorm, Linear, Mode, Seen, Sequences, functional};
use crate::params::{Builder, Init};
use crate::policy::Anatomy;
use finetuned::domain::backbone::Backbone;

/// The fields of `config.json` that the model reads.
#[derive(Clone, Debug, Deserialize)]
struct VitConfig {
    hidden_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    intermediate_size: i64,
    #[serde(default = "default::gelu")]
    hidden_act: String,
    #[serde(default)]
    hidden_dropout_prob: f64,
    #[serde(default)]
    attention_probs_dropout_prob: f64,
    #[serde(default = "default::initializer_range")]
    initializer_range: f64,
    #[serde(default = "default::layer_norm_eps")]
    layer_norm_eps: f64,
    /// Height and width in pixels.
    image_size: i64,
    /// Height and width of a patch in pixels.
    patch_size: i64,
    #[serde(default = "default::three")]
    num_channels: i64,
    #[serde(default = "default::yes")]
    qkv_bias: bool,
}

/// Reads a `config.json` of ViT.
pub(super) fn parse_vit(json: &str) -> Result<VisionConfig> {
    parse(json, ["ViTForImageClassification", "ViTImageProcessor"], "vit", &["cls_token"])
}

/// Reads a `config.json` of DeiT, whose images have a second token of their own.
pub(super) fn parse_deit(json: &str) -> Result<VisionConfig> {
    parse(json, ["DeiTForImageClassification", "DeiTImageProcessor"], "deit", &["cls_token", "distillation_token"])
}

fn parse(
    json: &str,
    [class, processor]: [&'static str; 2],
    prefix: &'static str,
    first: &'static [&'static str],
) -> Result<VisionConfig> {
    let config: VitConfig = read(json)?;
    config.check()?;
    let of_token = 8 * config.hidden_size.unsigned_abs() + 2 * config.intermediate_size.unsigned_abs();
    let tokens = config.side().unsigned_abs().pow(2) + 1;
    Ok(VisionConfig {
        backbone: Backbone::VisionTransformer,
        class,
        processor,
        anatomy: Anatomy {
            backbone: prefix,
            embeddings: &["embeddings"],
            layers: number(config.num_hidden_layers),
            adapted: &["query", "value"],
            ..Anatomy::default()
        },
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        image_size: Some(config.image_size),
        channels: config.num_channels,
        values_per_image: tokens * config.num_hidden_layers.unsigned_abs() * of_token,
        initializer_range: config.initializer_range,
        classifier: "classifier",
        saved_name: |_, name| saved_name(name),
        module_name: Some(module_name),
        encoder: Box::new(move |path| Ok(Box::new(Vit::new(path, &config, first)?))),
    })
}

impl VitConfig {
    fn check(&self) -> Result<()> {
        check_numbers(&[
            ("hidden_size", self.hidden_size, &WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, &LAYERS),
            ("intermediate_size", self.intermediate_size, &INNER_WIDTH),
            ("image_size", self.image_size, &PIXELS),
            ("num_channels", self.num_channels, &COLOURS),
        ])?;
        check_dropouts(&[
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ])?;
        activation("hidden_act", &self.hidden_act)?;
        check_heads("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)?;
        if self.patch_size < 1 || self.image_size % self.patch_size != 0 {
            return refuse("patch_size", self.patch_size, "a divisor of image_size");
        }
        Ok(())
    }

    /// Patches along each side of an image.
    fn side(&self) -> i64 {
        self.image_size / self.patch_size
    }
}

/// Parts of a layer: what Transformers' modules have been called since version 5, and what they are called in files,
/// which `save_pretrained` goes on writing with the old names.
const RENAMED: [(&str, &str); 6] = [
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
];

/// The name in files for a name of Transformers' modules (`vit.layers.0.attention.q_proj` and so on).
fn saved_name(name: &str) -> String {
    let Some((prefix, rest)) =
        name.split_once("layers.").filter(|(prefix, _)| matches!(*prefix, "" | "vit." | "deit."))
    else {
        return name.to_owned();
    };
    let rest = RENAMED.iter().fold(rest.to_owned(), |rest, (new, old)| rest.replace(new, old));
    format!("{prefix}encoder.layer.{rest}")
}

/// The name in Transformers' modules for a name in files: the other way round.
fn module_name(name: &str) -> String {
    let Some((prefix, rest)) = name.split_once("encoder.layer.") else { return name.to_owned() };
    let found = RENAMED.iter().find_map(|(new, old)| Some((new, rest.split_once(old)?)));
    match found {
        Some((new, (layer, rest))) => format!("{prefix}layers.{layer}{new}{rest}"),
        None => format!("{prefix}layers.{rest}"),
    }
}

/// Patches as tokens, after the tokens that stand for the whole image.
struct Embeddings {
    /// `[D, channels, patch, patch]` in the compute type: a convolution whose stride is its kernel's size.
    weight: Tensor,
    /// `[D]` in the compute type.
    bias: Tensor,
    /// Class token and, in DeiT, distillation token: `[1, 1, D]` each.
    first: Vec<Tensor>,
    /// `[1, tokens of an image, D]`.
    positions: Tensor,
    side: i64,
    patch: i64,
    dropout: f64,
}

impl Embeddings {
    fn new(path: &Builder<'_, '_>, config: &VitConfig, first: &[&str]) -> Result<Self> {
        let (width, patch, side) = (config.hidden_size, config.patch_size, config.side());
        let projection = path.at("patch_embeddings").at("projection");
        let tokens = side * side + first.len() as i64;
        let first = first.iter().map(|name| path.float(name, &[1, 1, width], Init::Required));
        Ok(Self {
            weight: projection.matrix("weight", &[width, config.num_channels, patch, patch], Init::Required)?,
            bias: projection.matrix("bias", &[width], Init::Required)?,
            first: first.collect::<Result<_>>()?,
            positions: path.float("position_embeddings", &[1, tokens, width], Init::Required)?,
            side,
            patch,
            dropout: config.hidden_dropout_prob,
        })
    }

    /// Tokens of one image.
    fn tokens(&self) -> i64 {
        self.side * self.side + self.first.len() as i64
    }

    /// `pixels` `[B, channels, H, W]` to the tokens of all images, packed: `[T, D]` in float32.
    fn forward(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
        let (batch, channels, _, _) = pixels.size4()?;
        let (side, patch, width) = (self.side, self.patch, self.bias.size1()?);
        // Patches do not overlap, so the convolution is a matrix product of their pixels.
        let grid = pixels.f_view([batch, channels, side, patch, side, patch])?.f_permute([0, 2, 4, 1, 3, 5])?;
        let patches = grid.f_reshape([batch, side * side, channels * patch * patch])?.f_to_kind(self.weight.kind())?;
        let patches = patches.f_linear(&self.weight.f_view([width, -1])?, Some(&self.bias))?.f_to_kind(Kind::Float)?;
        let mut parts = Vec::with_capacity(self.first.len() + 1);
        for token in &self.first {
            parts.push(token.f_expand([batch, 1, width], false)?);
        }
        parts.push(patches);
        let tokens = Tensor::f_cat(&parts, 1)?.f_add(&self.positions)?.f_view([-1, width])?;
        functional::dropout(&tokens, self.dropout, mode)
    }
}

struct Layer {
    norm_before: LayerNorm,
    query_key_value: Linear,
    attention_output: Linear,
    norm_after: LayerNorm,
    intermediate: Linear,
    output: Linear,
    activation: Activation,
    heads: Heads,
    attention_dropout: f64,
    hidden_dropout: f64,
    compute: Kind,
}

impl Layer {
    fn new(path: &Builder<'_, '_>, config: &VitConfig) -> Result<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = path.at("attention");
        let parts = ["query", "key", "value"].map(|name| (name, width));
        Ok(Self {
            norm_before: LayerNorm::new(&path.at("layernorm_before"), width, eps)?,
            query_key_value: Linear::fused(&attention.at("attention"), &parts, width, config.qkv_bias)?,
            attention_output: Linear::new(&attention.at("output").at("dense"), width, width)?,
            norm_after: LayerNorm::new(&path.at("layernorm_after"), width, eps)?,
            intermediate: Linear::new(&path.at("intermediate").at("dense"), width, inner)?,
            output: Linear::new(&path.at("output").at("dense"), inner, width)?,
            activation: activation("hidden_act", &config.hidden_act)?,
            heads: Heads::alike(config.num_attention_heads, width),
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
            compute: path.compute(),
        })
    }

    fn attend(&self, x: &Tensor, sequences: &Sequences, mode: &Mode) -> Result<Tensor> {
        let normed = self.norm_before.forward(x)?.f_to_kind(self.compute)?;
        let qkv = self.query_key_value.forward(&normed, mode)?;
        functional::attention(&qkv, sequences, self.heads, Seen::All, self.attention_dropout, mode)
    }

    /// Everything after attention, which looks at each token alone: `x` `[.., D]` in float32, as is the result.
    fn transform(&self, x: &Tensor, attended: &Tensor, mode: &Mode) -> Result<Tensor> {
        let p = self.hidden_dropout;
        let x = x.f_add(&functional::dropout(&self.attention_output.forward(attended, mode)?, p, mode)?)?;
        let normed = self.norm_after.forward(&x)?.f_to_kind(self.compute)?;
        let inner = (self.activation)(&self.intermediate.forward(&normed, mode)?)?;
        Ok(x.f_add(&functional::dropout(&self.output.forward(&inner, mode)?, p, mode)?)?)
    }
}

/// Embeddings, encoder layers and the last norm.
struct Vit {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Vit {
    /// The model at `path` (in checkpoints of task models: `vit` or `deit`); `first` are the tokens before the patches.
    fn new(path: &Builder<'_, '_>, config: &VitConfig, first: &[&str]) -> Result<Self> {
        let layer = |i| Layer::new(&path.at("encoder").at("layer").at(i), config);
        Ok(Self {
            embeddings: Embeddings::new(&path.at("embeddings"), config, first)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::new(&path.at("layernorm"), config.hidden_size, config.layer_norm_eps)?,
        })
    }
}

impl VisionEncoder for Vit {
    /// The features are each image's first token.
    ///
    /// Nothing else leaves the encoder, so the last layer transforms first tokens alone; its attention still sees
    /// every token, and the result is the same.
    fn features(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
        let images = pixels.size4()?.0.unsigned_abs() as usize;
        let sequences = Sequences::from_lengths(vec![self.embeddings.tokens(); images], pixels.device())?;
        let mut x = self.embeddings.forward(pixels, mode)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let mut attended = layer.attend(&x, &sequences, mode)?;
            if i + 1 == self.layers.len() {
                x = x.f_index_select(0, &sequences.first)?;
                attended = attended.f_index_select(0, &sequences.first)?;
            }
            x = layer.transform(&x, &attended, mode)?;
        }
        self.norm.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::{module_name, saved_name};

    #[test]
    fn names_of_modules_and_of_files_lead_to_each_other() {
        for (module, saved) in [
            ("vit.layers.3.attention.q_proj.weight", "vit.encoder.layer.3.attention.attention.query.weight"),
            ("deit.layers.10.attention.o_proj.bias", "deit.encoder.layer.10.attention.output.dense.bias"),
            ("vit.layers.0.mlp.fc1.lora_A.weight", "vit.encoder.layer.0.intermediate.dense.lora_A.weight"),
            ("vit.layers.0.mlp.fc2.weight", "vit.encoder.layer.0.output.dense.weight"),
            ("classifier.weight", "classifier.weight"),
        ] {
            assert_eq!((module_name(saved), saved_name(module)), (module.to_owned(), saved.to_owned()));
        }
    }
}
