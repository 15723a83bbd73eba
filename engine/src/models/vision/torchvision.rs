//! The names of torchvision's ResNet checkpoints.

use std::collections::BTreeSet;

/// Whether a checkpoint with these names is torchvision's.
pub(super) fn is_torchvision(names: &BTreeSet<String>) -> bool {
    names.contains("conv1.weight")
}

/// Transformers' name for a tensor of a torchvision ResNet (`layer1.0.conv1.weight`); names of anything else stay.
///
/// The models are the same but for names: torchvision has the stride of a bottleneck in its second convolution, which
/// is `downsample_in_bottleneck: false`.
pub fn transformers_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let renamed = match parts.as_slice() {
        ["conv1", what] => Some(format!("resnet.embedder.embedder.convolution.{what}")),
        ["bn1", what] => Some(format!("resnet.embedder.embedder.normalization.{what}")),
        ["fc", what] => Some(format!("classifier.1.{what}")),
        [stage, block, rest @ .., what] => in_block(stage, block, rest).map(|path| format!("{path}.{what}")),
        _ => None,
    };
    renamed.unwrap_or_else(|| name.to_owned())
}

fn in_block(stage: &str, block: &str, rest: &[&str]) -> Option<String> {
    // Stages and the layers of a block are counted from 1 there and from 0 here.
    let from_zero = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
    let stage = from_zero(stage.strip_prefix("layer")?)?;
    let inside = match rest {
        ["downsample", "0"] => "shortcut.convolution".to_owned(),
        ["downsample", "1"] => "shortcut.normalization".to_owned(),
        [layer] => match (layer.strip_prefix("conv"), layer.strip_prefix("bn")) {
            (Some(number), _) => format!("layer.{}.convolution", from_zero(number)?),
            (_, Some(number)) => format!("layer.{}.normalization", from_zero(number)?),
            _ => return None,
        },
        _ => return None,
    };
    Some(format!("resnet.encoder.stages.{stage}.layers.{block}.{inside}"))
}
