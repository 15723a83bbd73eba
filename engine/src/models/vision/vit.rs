//! ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) and DeiT (Touvron et al. 2020, arXiv:2012.12877) as in
//! Transformers' `ViTModel` and `DeiTModel`, on packed batches: the tokens of `B` images are `B` sequences.
//!
//! Pre-norm encoder with learned positions and the residual stream in float32. Left out: interpolated positions for
//! other image sizes, and masked patches.

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::refuse;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Mode, Sequences, functional};
use crate::params::{Builder, Init};

/// The fields of `config.json` that the model reads.
#[derive(Clone, Debug, Deserialize)]
pub struct VitConfig {
    pub hidden_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub intermediate_size: i64,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default)]
    pub hidden_dropout_prob: f64,
    #[serde(default)]
    pub attention_probs_dropout_prob: f64,
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// Height and width in pixels.
    pub image_size: i64,
    /// Height and width of a patch in pixels.
    pub patch_size: i64,
    #[serde(default = "three")]
    pub num_channels: i64,
    #[serde(default = "yes")]
    pub qkv_bias: bool,
}

fn gelu() -> String {
    "gelu".to_owned()
}
fn initializer_range() -> f64 {
    0.02
}
fn layer_norm_eps() -> f64 {
    1e-12
}
fn three() -> i64 {
    3
}
fn yes() -> bool {
    true
}

impl VitConfig {
    pub(super) fn check(&self) -> Result<()> {
        if !matches!(self.hidden_act.as_str(), "gelu" | "relu" | "gelu_new") {
            return refuse("hidden_act", &self.hidden_act, "gelu, gelu_new, relu");
        }
        if self.hidden_size < 1 || self.intermediate_size < 1 || self.num_hidden_layers < 1 {
            let found = format!("{}, {}, {}", self.hidden_size, self.intermediate_size, self.num_hidden_layers);
            return refuse("hidden_size, intermediate_size, num_hidden_layers", &found, "1 or more each");
        }
        if self.num_attention_heads < 1 || self.hidden_size % self.num_attention_heads != 0 {
            return refuse("num_attention_heads", &self.num_attention_heads, "a divisor of hidden_size");
        }
        if !(1..=4096).contains(&self.image_size) {
            return refuse("image_size", &self.image_size, "1 to 4096");
        }
        if self.patch_size < 1 || self.image_size % self.patch_size != 0 {
            return refuse("patch_size", &self.patch_size, "a divisor of image_size");
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
pub(super) fn saved_name(name: &str) -> String {
    let Some((prefix, rest)) =
        name.split_once("layers.").filter(|(prefix, _)| matches!(*prefix, "" | "vit." | "deit."))
    else {
        return name.to_owned();
    };
    let rest = RENAMED.iter().fold(rest.to_owned(), |rest, (new, old)| rest.replace(new, old));
    format!("{prefix}encoder.layer.{rest}")
}

/// The name in Transformers' modules for a name in files: the other way round.
pub(super) fn module_name(name: &str) -> String {
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
    fn new(path: &Builder<'_, '_>, config: &VitConfig, distilled: bool) -> Result<Self> {
        let (width, patch, side) = (config.hidden_size, config.patch_size, config.side());
        let projection = path.at("patch_embeddings").at("projection");
        let names: &[&str] = if distilled { &["cls_token", "distillation_token"] } else { &["cls_token"] };
        let first = names.iter().map(|name| path.float(name, &[1, 1, width], Init::Required));
        let tokens = side * side + names.len() as i64;
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
    activation: fn(&Tensor) -> Result<Tensor>,
    heads: i64,
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
            activation: match config.hidden_act.as_str() {
                "relu" => |x| Ok(x.f_relu()?),
                "gelu_new" => |x| Ok(x.f_gelu("tanh")?),
                _ => |x| Ok(x.f_gelu("none")?),
            },
            heads: config.num_attention_heads,
            attention_dropout: config.attention_probs_dropout_prob,
            hidden_dropout: config.hidden_dropout_prob,
            compute: path.compute(),
        })
    }

    fn attend(&self, x: &Tensor, sequences: &Sequences, mode: &Mode) -> Result<Tensor> {
        let normed = self.norm_before.forward(x)?.f_to_kind(self.compute)?;
        let qkv = self.query_key_value.forward(&normed, mode)?;
        functional::attention(&qkv, sequences, self.heads, self.attention_dropout, mode)
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
pub(super) struct Vit {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Vit {
    /// The model at `path` (in checkpoints of task models: `vit` or `deit`); DeiT is `distilled`.
    pub(super) fn new(path: &Builder<'_, '_>, config: &VitConfig, distilled: bool) -> Result<Self> {
        let layer = |i| Layer::new(&path.at("encoder").at("layer").at(i), config);
        Ok(Self {
            embeddings: Embeddings::new(&path.at("embeddings"), config, distilled)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::new(&path.at("layernorm"), config.hidden_size, config.layer_norm_eps)?,
        })
    }

    /// `pixels` `[B, channels, H, W]` in float32 to features `[B, D]` in float32: each image's first token.
    ///
    /// Nothing else leaves the encoder, so the last layer transforms first tokens alone; its attention still sees
    /// every token, and the result is the same.
    pub(super) fn features(&self, pixels: &Tensor, mode: &Mode) -> Result<Tensor> {
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
