//! Holding out part of the training examples for validation.

use crate::domain::random::mix_all;

/// Which examples are held out: of each class, the share `fraction` (rounded), but never all. `classes` gives the
/// class of each example. The choice is a function of the seed and of the examples' places.
pub fn held_out(classes: &[usize], fraction: f64, seed: i64) -> Vec<bool> {
    let mut by_class: Vec<Vec<usize>> = Vec::new();
    for (example, &class) in classes.iter().enumerate() {
        if by_class.len() <= class {
            by_class.resize(class + 1, Vec::new());
        }
        by_class[class].push(example);
    }
    let mut held = vec![false; classes.len()];
    for mut members in by_class {
        let count = held_out_of(members.len() as u64, fraction) as usize;
        members.sort_by_key(|&example| mix_all(&[seed.cast_unsigned(), example as u64]));
        for &example in &members[..count] {
            held[example] = true;
        }
    }
    held
}

/// How many of a class of `count` examples are held out.
pub fn held_out_of(count: u64, fraction: f64) -> u64 {
    ((count as f64 * fraction).round() as u64).min(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::{held_out, held_out_of};

    #[test]
    fn each_class_gives_its_share_and_keeps_at_least_one() {
        let classes: Vec<usize> = (0..100).map(|i| usize::from(i >= 80)).chain([2]).collect();
        let held = held_out(&classes, 0.1, 7);
        let count = |class| held.iter().zip(&classes).filter(|(held, c)| **held && **c == class).count();
        assert_eq!((count(0), count(1), count(2)), (8, 2, 0));
        assert_eq!(held_out_of(1, 0.9), 0);
    }

    #[test]
    fn the_choice_depends_on_the_seed_alone() {
        let classes = vec![0; 50];
        assert_eq!(held_out(&classes, 0.2, 1), held_out(&classes, 0.2, 1));
        assert_ne!(held_out(&classes, 0.2, 1), held_out(&classes, 0.2, 2));
        assert!(held_out(&classes, 0.0, 1).iter().all(|held| !held));
    }
}
