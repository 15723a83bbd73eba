//! The multiple-negatives ranking loss (Henderson et al. 2017, arXiv:1705.00652), as in sentence-transformers'
//! `MultipleNegativesRankingLoss`.

use tch::{Reduction, Tensor};

use crate::error::Result;

/// Similarities `[S, candidates]` from embeddings `[S + candidates, D]`, the `count` anchors first.
pub(super) fn similarities(embeddings: &Tensor, count: usize, scale: f64) -> Result<Tensor> {
    // As torch.nn.functional.normalize.
    let norms = embeddings.f_norm_scalaropt_dim(2, [1], true)?.f_clamp_min(1e-12)?;
    let unit = embeddings.f_div(&norms)?;
    let anchors = unit.f_narrow(0, 0, count as i64)?;
    let candidates = unit.f_narrow(0, count as i64, unit.size()[0] - count as i64)?;
    Ok(anchors.f_matmul(&candidates.f_tr()?)?.f_mul_scalar(scale)?)
}

/// The loss of a batch from its similarities: each anchor's own positive against all candidates.
pub(super) fn ranking_loss(similarities: &Tensor, own: &Tensor, reduction: Reduction) -> Result<Tensor> {
    Ok(similarities.f_cross_entropy_loss(own, None::<Tensor>, reduction, -100, 0.0)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use tch::{Device, Kind, Reduction, Tensor};

    use super::{ranking_loss, similarities};

    #[test]
    fn the_ranking_loss_of_pairs_and_triplets_is_that_of_sentence_transformers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses.safetensors");
        let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        for (name, rows) in [("pairs", 10), ("triplets", 15)] {
            let leaf = golden["ranking.embeddings"].narrow(0, 0, rows).copy().set_requires_grad(true);
            let own = Tensor::arange(5, (Kind::Int64, Device::Cpu));
            let sum = ranking_loss(&similarities(&leaf, 5, 20.0).unwrap(), &own, Reduction::Sum).unwrap();
            let mean = sum / 5.0;
            mean.backward();
            for (what, actual) in [("loss", mean.reshape([1])), ("grad", leaf.grad())] {
                let expected = &golden[&format!("ranking.{name}.{what}")];
                let difference = (actual - expected).abs().max().double_value(&[]);
                assert!(difference <= 1e-5, "{what}, {name}: {difference:.2e}");
            }
        }
    }
}
