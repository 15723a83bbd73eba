//! The order of examples: a function of seed and epoch, so a resumed run needs no state.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The order in which epoch `epoch` (from 0) sees `count` examples: the permutation that Transformers' Trainer uses,
/// `torch.randperm` of a generator seeded with `seed + epoch`.
pub fn epoch_order(count: usize, seed: i64, epoch: u64) -> Result<Vec<usize>> {
    tch::manual_seed(seed.wrapping_add(epoch.cast_signed()));
    let order = Tensor::f_randperm(count as i64, (Kind::Int64, Device::Cpu))?;
    let order: Vec<i64> = Vec::try_from(&order)?;
    Ok(order.into_iter().map(|index| index.unsigned_abs() as usize).collect())
}

/// Indices `0..lengths.len()` from the longest to the shortest, cut into groups of at most `tokens` tokens and `most`
/// examples (and at least one), for evaluation.
pub fn by_length(lengths: &[usize], tokens: usize, most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut total = 0_usize;
    for index in order {
        let is_full = groups.last().is_none_or(|group| group.len() >= most);
        if is_full || total.saturating_add(lengths[index]) > tokens {
            groups.push(Vec::new());
            total = 0;
        }
        total += lengths[index];
        if let Some(group) = groups.last_mut() {
            group.push(index);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::{by_length, epoch_order};

    #[test]
    fn epochs_differ_and_repeat() {
        let first = epoch_order(100, 42, 0).unwrap();
        assert_eq!(first, epoch_order(100, 42, 0).unwrap());
        assert_ne!(first, epoch_order(100, 42, 1).unwrap());
        let mut sorted = first;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn groups_hold_every_example_once_within_the_budget() {
        let groups = by_length(&[3, 9, 1, 2, 5], 6, 3);
        assert_eq!(groups, [vec![1], vec![4], vec![0, 3, 2]]);
        assert_eq!(by_length(&[3, 9, 1, 2, 5], 6, 2), [vec![1], vec![4], vec![0, 3], vec![2]]);
        assert!(by_length(&[], 6, 3).is_empty());
    }
}
