//! Medians and spreads of a few rounds.

use serde::{Deserialize, Serialize};

/// A middle and how far the rounds lie apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    /// Quarter points: half of the rounds lie between them.
    pub q1: f64,
    pub q3: f64,
}

impl Spread {
    /// `None` when there are no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            low: *values.first()?,
            high: *values.last()?,
            median: quantile(&values, 0.5),
            q1: quantile(&values, 0.25),
            q3: quantile(&values, 0.75),
        })
    }

    /// Distance of the quarter points as a part of the median.
    pub fn width(&self) -> f64 {
        (self.q3 - self.q1) / self.median
    }
}

/// Linear between the two nearest of `sorted`, which is not empty.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few rounds")]
    let place = part * (sorted.len() - 1) as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the slice")]
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_ignores_one_wild_round() {
        let spread = Spread::of([10.0, 11.0, 900.0, 9.0, 10.5]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (10.5, 9.0, 900.0));
        assert_eq!((spread.q1, spread.q3), (10.0, 11.0));
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }
}
