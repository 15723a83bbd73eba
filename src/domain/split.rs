//! Holding out part of the training examples for validation, so that no example stands on both sides.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::random::mix_all;

/// What of an example decides on which side it stands: its class (0 where examples have none, or several), and the print by
/// which equal examples are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splitting<'a> {
    pub classes: &'a [usize],
    /// None splits example by example, as the first versions did: jobs that these began go on with their split.
    pub prints: Option<&'a [u64]>,
}

impl Splitting<'_> {
    /// Which examples are held out: about the share `fraction`, of each class alike, and equal examples together. A function of
    /// the seed and of the examples.
    pub fn held_out(&self, fraction: f64, seed: i64) -> Vec<bool> {
        match self.prints {
            Some(prints) => groups_held_out(self.classes, prints, fraction, seed),
            None => examples_held_out(self.classes, fraction, seed),
        }
    }
}

/// Groups of equal examples: how many there are of each size, by the class of the first of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups(Vec<BTreeMap<u64, u64>>);

/// A group, by the order of its first example.
struct Group {
    /// The number of its class, in the order in which classes first occur.
    stratum: usize,
    print: u64,
    size: u64,
}

/// The groups, and the group of each example.
fn gather(classes: &[usize], prints: &[u64]) -> (Vec<Group>, Vec<usize>) {
    let (mut strata, mut known) = (HashMap::new(), HashMap::new());
    let (mut groups, mut of_examples) = (Vec::<Group>::new(), Vec::with_capacity(prints.len()));
    for (class, &print) in classes.iter().zip(prints) {
        let group = *known.entry(print).or_insert_with(|| {
            let next = strata.len();
            let stratum = *strata.entry(class).or_insert(next);
            groups.push(Group { stratum, print, size: 0 });
            groups.len() - 1
        });
        groups[group].size += 1;
        of_examples.push(group);
    }
    (groups, of_examples)
}

impl Groups {
    /// Those of examples with these classes and prints.
    pub fn of(classes: &[usize], prints: &[u64]) -> Self {
        Self::count(&gather(classes, prints).0)
    }

    /// Those of groups of which each is known by the place of its first example, the class of that one, and its size.
    pub fn of_firsts(groups: impl Iterator<Item = (u64, usize, u64)>) -> Self {
        let mut strata: HashMap<usize, (u64, BTreeMap<u64, u64>)> = HashMap::new();
        for (place, class, size) in groups {
            let (first, sizes) = strata.entry(class).or_insert_with(|| (place, BTreeMap::new()));
            *first = place.min(*first);
            *sizes.entry(size).or_default() += 1;
        }
        let mut strata: Vec<(u64, BTreeMap<u64, u64>)> = strata.into_values().collect();
        strata.sort_by_key(|(first, _)| *first);
        Self(strata.into_iter().map(|(_, sizes)| sizes).collect())
    }

    fn count(groups: &[Group]) -> Self {
        let mut strata = Vec::<BTreeMap<u64, u64>>::new();
        for group in groups {
            if strata.len() <= group.stratum {
                strata.resize_with(group.stratum + 1, BTreeMap::new);
            }
            *strata[group.stratum].entry(group.size).or_default() += 1;
        }
        Self(strata)
    }

    /// How many examples equal one before them.
    pub fn duplicates(&self) -> u64 {
        self.0.iter().flatten().map(|(size, groups)| (size - 1) * groups).sum()
    }

    /// How many examples are held out.
    pub fn held_out(&self, fraction: f64) -> u64 {
        self.plan(fraction).iter().flatten().map(|(size, groups)| size * groups).sum()
    }

    /// How many groups of each size are held out of each class. It depends on the numbers alone, so that what is held out
    /// can be counted without the examples.
    fn plan(&self, fraction: f64) -> Vec<BTreeMap<u64, u64>> {
        let sizes: Vec<u64> =
            self.0.iter().map(|groups| groups.iter().map(|(size, groups)| size * groups).sum()).collect();
        let mut plan: Vec<BTreeMap<u64, u64>> = vec![BTreeMap::new(); self.0.len()];
        let all: u64 = sizes.iter().sum();
        if fraction <= 0.0 || all < 2 {
            return plan;
        }
        let wanted = ((all as f64 * fraction).round() as u64).max(1);
        for ((plan, groups), target) in plan.iter_mut().zip(&self.0).zip(self.targets(&sizes, wanted, fraction)) {
            *plan = of_stratum(groups, target);
        }
        if plan.iter().all(BTreeMap::is_empty) {
            // All groups are larger than what is wanted of their class: one is better than none.
            let count = |groups: &BTreeMap<u64, u64>| groups.values().sum::<u64>();
            let most = self.0.iter().enumerate().filter(|(_, groups)| count(groups) > 1);
            let most = most.max_by_key(|(stratum, groups)| (count(groups), std::cmp::Reverse(*stratum)));
            if let Some((stratum, groups)) = most {
                plan[stratum] = groups.keys().next().map(|&size| (size, 1)).into_iter().collect();
            }
        }
        plan
    }

    /// How many examples are wanted of each class: the rounded share; where these are fewer than are wanted of all, the largest
    /// remainders make up for it.
    fn targets(&self, sizes: &[u64], wanted: u64, fraction: f64) -> Vec<u64> {
        let ideal: Vec<f64> = sizes.iter().map(|&size| size as f64 * fraction).collect();
        let mut targets: Vec<u64> = ideal.iter().map(|share| share.round() as u64).collect();
        let mut order: Vec<usize> = (0..sizes.len())
            .filter(|&class| self.0[class].values().sum::<u64>() > 1 && ideal[class].fract() < 0.5)
            .collect();
        order.sort_by(|&a, &b| {
            let remainder = |class: usize| ideal[class].fract();
            remainder(b).total_cmp(&remainder(a)).then(sizes[b].cmp(&sizes[a])).then(a.cmp(&b))
        });
        let missing = wanted.saturating_sub(targets.iter().sum());
        for class in order.into_iter().take(missing as usize) {
            targets[class] += 1;
        }
        targets
    }
}

/// How many groups of each size make up about `target` examples of a class, of each size its share, and never all groups.
fn of_stratum(groups: &BTreeMap<u64, u64>, target: u64) -> BTreeMap<u64, u64> {
    let all: u64 = groups.iter().map(|(size, count)| size * count).sum();
    let (mut plan, mut left, mut carry) = (BTreeMap::new(), target, 0.0);
    let last = groups.keys().next().copied();
    for (&size, &count) in groups.iter().rev() {
        let taken = if Some(size) == last {
            count.min(left / size)
        } else {
            let share = target as f64 * (size * count) as f64 / all as f64 + carry;
            let taken = ((share / size as f64).floor() as u64).min(count).min(left / size);
            carry = share - (taken * size) as f64;
            taken
        };
        left -= taken * size;
        if taken > 0 {
            plan.insert(size, taken);
        }
    }
    if plan.values().sum::<u64>() == groups.values().sum::<u64>()
        && let Some(mut smallest) = plan.first_entry()
    {
        *smallest.get_mut() -= 1;
        if *smallest.get() == 0 {
            smallest.remove();
        }
    }
    plan
}

fn groups_held_out(classes: &[usize], prints: &[u64], fraction: f64, seed: i64) -> Vec<bool> {
    let (groups, of_examples) = gather(classes, prints);
    let plan = Groups::count(&groups).plan(fraction);
    let mut alike: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        alike.entry((group.stratum, group.size)).or_default().push(number);
    }
    let mut held = vec![false; groups.len()];
    for ((stratum, size), mut members) in alike {
        members.sort_by_key(|&group| mix_all(&[seed.cast_unsigned(), groups[group].print]));
        let count = plan[stratum].get(&size).copied().unwrap_or(0) as usize;
        for &group in &members[..count] {
            held[group] = true;
        }
    }
    of_examples.into_iter().map(|group| held[group]).collect()
}

/// Of each class the rounded share, but never all. The choice is a function of the seed and of the examples' places.
fn examples_held_out(classes: &[usize], fraction: f64, seed: i64) -> Vec<bool> {
    let mut by_class: Vec<Vec<usize>> = Vec::new();
    for (example, &class) in classes.iter().enumerate() {
        if by_class.len() <= class {
            by_class.resize(class + 1, Vec::new());
        }
        by_class[class].push(example);
    }
    let mut held = vec![false; classes.len()];
    for mut members in by_class {
        let count = (members.len() as f64 * fraction).round() as usize;
        let count = count.min(members.len().saturating_sub(1));
        members.sort_by_key(|&example| mix_all(&[seed.cast_unsigned(), example as u64]));
        for &example in &members[..count] {
            held[example] = true;
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Groups, Splitting};
    use crate::domain::random::mix;

    fn held(classes: &[usize], prints: Option<&[u64]>, fraction: f64, seed: i64) -> Vec<bool> {
        Splitting { classes, prints }.held_out(fraction, seed)
    }

    fn count(held: &[bool], classes: &[usize], class: usize) -> usize {
        held.iter().zip(classes).filter(|(held, of)| **held && **of == class).count()
    }

    #[test]
    fn each_class_gives_its_share_and_keeps_at_least_one() {
        let classes: Vec<usize> = (0..100).map(|i| usize::from(i >= 80)).chain([2]).collect();
        let prints: Vec<u64> = (0..101).collect();
        for prints in [None, Some(&prints[..])] {
            let held = held(&classes, prints, 0.1, 7);
            assert_eq!([0, 1, 2].map(|class| count(&held, &classes, class)), [8, 2, 0]);
        }
    }

    #[test]
    fn the_choice_depends_on_the_seed_and_the_examples_alone() {
        let (classes, prints) = (vec![0; 50], (0..50).map(mix).collect::<Vec<_>>());
        for prints in [None, Some(&prints[..])] {
            assert_eq!(held(&classes, prints, 0.2, 1), held(&classes, prints, 0.2, 1));
            assert_ne!(held(&classes, prints, 0.2, 1), held(&classes, prints, 0.2, 2));
            assert!(held(&classes, prints, 0.0, 1).iter().all(|held| !held));
        }
        let mut turned = prints.clone();
        turned.reverse();
        let mut other = held(&classes, Some(&turned), 0.2, 1);
        other.reverse();
        assert_eq!(held(&classes, Some(&prints), 0.2, 1), other, "the order of rows is nothing to it");
    }

    #[test]
    fn equal_examples_stand_on_one_side_and_the_count_is_known_without_them() {
        for round in 0..300 {
            let draw = |what: u64, most: u64| mix(round << 32 | what) % most;
            let examples = 10 + draw(0, 200);
            let texts = 1 + draw(1, examples);
            let classes: Vec<usize> = (0..examples).map(|i| draw(100 + i, 1 + draw(2, 6)) as usize).collect();
            let prints: Vec<u64> = (0..examples).map(|i| draw(1000 + i, texts)).collect();
            let fraction = draw(3, 6) as f64 / 10.0;
            let held = held(&classes, Some(&prints), fraction, 5);
            let mut sides = HashMap::new();
            for (print, held) in prints.iter().zip(&held) {
                assert_eq!(*sides.entry(print).or_insert(*held), *held, "a text stands on both sides");
            }
            let (groups, count) = (Groups::of(&classes, &prints), held.iter().filter(|held| **held).count() as u64);
            assert_eq!(groups.held_out(fraction), count);
            let firsts = sides.keys().map(|&&print| {
                let first = prints.iter().position(|&other| other == print).unwrap();
                (first as u64, classes[first], prints.iter().filter(|&&other| other == print).count() as u64)
            });
            assert_eq!(Groups::of_firsts(firsts), groups);
            assert_eq!(groups.duplicates(), examples - sides.len() as u64);
            let share = |examples: u64| (examples as f64 * fraction).round() as u64;
            let of_classes = groups.0.iter().map(|sizes| share(sizes.iter().map(|(size, count)| size * count).sum()));
            let largest = groups.0.iter().flatten().map(|(size, _)| *size).max().unwrap();
            assert!(count <= of_classes.sum::<u64>().max(share(examples)).max(largest));
            assert!(count < examples || fraction == 0.0);
        }
    }

    #[test]
    fn something_is_held_out_wherever_a_class_has_two_texts() {
        let few: Vec<usize> = (0..120).map(|i| i / 3).collect();
        let prints: Vec<u64> = (0..120).collect();
        assert_eq!(held(&few, Some(&prints), 0.1, 1).iter().filter(|held| **held).count(), 12);
        assert_eq!(held(&few, None, 0.1, 1).iter().filter(|held| **held).count(), 0);
        // Copies of few texts: a whole group, though it is more than was wanted.
        let copies: Vec<u64> = (0..20).map(|i| i / 10).collect();
        assert_eq!(Groups::of(&[0; 20], &copies).held_out(0.1), 10);
        // A class of its own for each text: none can be spared.
        assert_eq!(Groups::of(&(0..20).collect::<Vec<_>>(), &prints[..20]).held_out(0.1), 0);
    }
}
