//! Random draws as a function of their place: (seed, epoch, example) gives the same draws on whatever machine, after
//! whatever was drawn before.

use std::f64::consts::TAU;

use finetuned::domain::random::{mix, mix_all};

/// The draws that belong to one key, in order.
pub struct Draws {
    key: u64,
    count: u64,
}

impl Draws {
    /// The draws of a place.
    pub fn new(place: &[u64]) -> Self {
        Self { key: mix_all(place), count: 0 }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        mix(self.key ^ mix(self.count))
    }

    /// Uniform from 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Uniform among `0..count`.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(count)) >> 64) as u64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A random order of `0..N` (Fisher and Yates).
    pub fn order<const N: usize>(&mut self) -> [usize; N] {
        let mut order = std::array::from_fn(|i| i);
        for i in (1..N).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }

    /// Beta(alpha, alpha), by two Gamma variables.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        let (one, other) = (self.gamma(alpha), self.gamma(alpha));
        // Both can be too small for a float64 when alpha is; then either end is as likely.
        if one + other > 0.0 { one / (one + other) } else { f64::from(u8::from(self.chance(0.5))) }
    }

    /// Gamma(shape, 1) by Marsaglia & Tsang (2000), with their boost for shapes below 1.
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = (1.0 - self.unit()).powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let v = (1.0 + c * normal).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// A standard normal variable (Box & Muller 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::Draws;

    #[test]
    fn draws_are_spread_as_they_should_be() {
        let mut draws = Draws::new(&[1, 2, 3]);
        let mut counts = [0; 5];
        let mut sum = 0.0;
        for _ in 0..10_000 {
            counts[draws.below(5) as usize] += 1;
            sum += draws.unit();
        }
        assert!(counts.iter().all(|count| (1800..2200).contains(count)), "{counts:?}");
        assert!((sum / 10_000.0 - 0.5).abs() < 0.02);
        let mut order = draws.order::<4>();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        for alpha in [0.2, 1.0, 4.0] {
            let mut draws = Draws::new(&[7]);
            let values: Vec<f64> = (0..20_000).map(|_| draws.beta(alpha)).collect();
            let mean = values.iter().sum::<f64>() / 20_000.0;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 20_000.0;
            assert!((mean - 0.5).abs() < 0.02, "{alpha}: {mean}");
            assert!((variance - 0.25 / (2.0 * alpha + 1.0)).abs() < 0.01, "{alpha}: {variance}");
        }
        // Far below what a float64 can hold.
        assert!((0.0..=1.0).contains(&Draws::new(&[1]).beta(1e-5)));
    }
}
