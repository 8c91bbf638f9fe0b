//! The exact distance of two vectors by a metric.

use crate::kernels::Kernels;
use tenantry_types::Metric;

/// A vector's length, as far as arithmetic cares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Size {
    /// Exactly zero.
    Zero,
    /// The norm lies where neither its square, nor the square of a sum of two such, nor a product
    /// of two such overflows or underflows an `f32`.
    Plain(f32),
    /// Anything else, including vectors with components that are not finite: for these distances
    /// are computed in 64 bits.
    Extreme,
}

impl Size {
    /// The size of `vector`.
    pub(crate) fn of(vector: &[f32]) -> Self {
        let norm = squared_norm(vector).sqrt();
        if norm == 0.0 {
            Self::Zero
        } else if (1e-10..=1e18).contains(&norm) {
            #[expect(clippy::cast_possible_truncation, reason = "in range; rounding is harmless")]
            Self::Plain(norm as f32)
        } else {
            Self::Extreme
        }
    }

    /// True if the kernels can handle it.
    fn fits(self) -> bool {
        self != Self::Extreme
    }
}

/// A query vector.
pub(crate) struct Query<'a> {
    pub(crate) metric: Metric,
    pub(crate) kernels: &'static Kernels,
    pub(crate) vector: &'a [f32],
    pub(crate) size: Size,
}

impl Query<'_> {
    /// The distance to `other`, whose size is given: never NaN, but possibly infinite.
    #[inline]
    pub(crate) fn distance(&self, other: &[f32], size: Size) -> f32 {
        if !(self.size.fits() && size.fits()) {
            return wide_distance(self.metric, self.vector, other);
        }
        match (self.metric, self.size, size) {
            (Metric::L2, ..) => self.kernels.squared_l2(self.vector, other),
            (Metric::InnerProduct, ..) => 1.0 - self.kernels.dot(self.vector, other),
            (Metric::Cosine, Size::Plain(a), Size::Plain(b)) => {
                let norms = f64::from(a) * f64::from(b);
                narrow(cosine(f64::from(self.kernels.dot(self.vector, other)), norms))
            }
            (Metric::Cosine, ..) => 1.0,
        }
    }
}

/// 1 − dot/norms, without the rounding errors that leave its range.
fn cosine(dot: f64, norms: f64) -> f64 {
    (1.0 - dot / norms).clamp(0.0, 2.0)
}

/// The distance in 64 bits, where no finite `f32` can overflow or vanish.
#[cold]
fn wide_distance(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    let pairs = a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    match metric {
        Metric::L2 => narrow(pairs.map(|(a, b)| (a - b) * (a - b)).sum()),
        Metric::InnerProduct => narrow(1.0 - pairs.map(|(a, b)| a * b).sum::<f64>()),
        Metric::Cosine => {
            let norms = squared_norm(a).sqrt() * squared_norm(b).sqrt();
            if norms == 0.0 { 1.0 } else { narrow(cosine(pairs.map(|(a, b)| a * b).sum(), norms)) }
        }
    }
}

/// Components that are not finite make a distance NaN; it counts as infinitely far.
#[expect(clippy::cast_possible_truncation, reason = "rounding to infinity is meant")]
fn narrow(distance: f64) -> f32 {
    if distance.is_nan() { f32::INFINITY } else { distance as f32 }
}

/// Σ xᵢ², eight sums at a time.
fn squared_norm(vector: &[f32]) -> f64 {
    let mut lanes = [0.0; 8];
    let (chunks, rest) = vector.as_chunks::<8>();
    for x in chunks.iter().map(<[f32; 8]>::as_slice).chain([rest]) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    }
    lanes.iter().sum()
}
