//! Filling rows of a fixed number of tokens with whole sequences.

use std::collections::BTreeSet;

/// Which sequences of these lengths share a row of at most `capacity` tokens: each, from the longest to the shortest, goes
/// where the least room is left that it fits into (best-fit decreasing; Johnson 1973). One that is longer than a row has
/// one for itself. Rows come in the order of their first sequences, and name their sequences in order.
pub fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // The room that is left in each row that has some.
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in order {
        let length = lengths[index];
        let (room, row) = if let Some(found) = open.range((length, 0)..).next().copied() {
            open.remove(&found);
            found
        } else {
            rows.push(Vec::new());
            (capacity.max(length), rows.len() - 1)
        };
        rows[row].push(index);
        if room > length {
            open.insert((room - length, row));
        }
    }
    for row in &mut rows {
        row.sort_unstable();
    }
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::best_fit_decreasing;
    use finetuned::domain::random::mix_all;

    #[test]
    fn sequences_go_where_they_fit_best() {
        assert_eq!(best_fit_decreasing(&[3, 6, 4, 9, 2, 1], 10), [vec![0, 4], vec![1, 2], vec![3, 5]]);
        assert_eq!(best_fit_decreasing(&[12, 1], 10), [vec![0], vec![1]]);
        assert!(best_fit_decreasing(&[], 10).is_empty());
    }

    #[test]
    fn every_sequence_is_in_one_row_and_little_room_is_lost() {
        let lengths: Vec<usize> = (0..5000).map(|i| 1 + (mix_all(&[7, i]) % 900) as usize).collect();
        let rows = best_fit_decreasing(&lengths, 1024);
        let mut seen: Vec<usize> = rows.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..lengths.len()));
        let tokens = |row: &Vec<usize>| row.iter().map(|&index| lengths[index]).sum::<usize>();
        assert!(rows.iter().all(|row| tokens(row) <= 1024));
        let filled = lengths.iter().sum::<usize>() as f64 / (rows.len() * 1024) as f64;
        assert!(filled > 0.97, "{filled}");
    }
}
