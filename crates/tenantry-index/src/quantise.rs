//! int8 codes, and lower bounds of distances from them.
//!
//! A vector x becomes x̂ = step · codes, with step = max|xᵢ| / 127. What is lost, ‖x − x̂‖, is
//! measured when the vector is stored. Then
//!
//! > q·x = q̂·x̂ + q·(x − x̂) + (q − q̂)·x̂, so that
//! > |q·x − q̂·x̂| ≤ ‖q‖ ‖x − x̂‖ + ‖q − q̂‖ ‖x̂‖ (Cauchy–Schwarz)
//!
//! and the distance by any metric is at least
//!
//! > bias − gain · (codes of q · codes of x) − ‖q‖ · residual − ‖q − q̂‖ · magnitude
//!
//! with four numbers per vector ([`Terms`]). The bound is proven, not estimated: it also holds
//! for the distance as the kernels round it, by [`rounding`].

use crate::{
    distance::Size,
    kernels::{BLOCK, Block, COMPONENTS_MAX},
};
use tenantry_types::Metric;

/// Blocks in a row of codes; 0 if vectors of this dimension are not quantised.
pub(crate) fn blocks(dimension: usize) -> usize {
    if dimension <= COMPONENTS_MAX { dimension.div_ceil(BLOCK) } else { 0 }
}

/// How far a float kernel's sum of `dimension` products may be from the true one, relative to
/// the sum of the absolute products.
///
/// A kernel adds at most a sixteenth of the products, and a few partial sums, in sequence; each
/// step errs by 2⁻²⁴ at most. This is four times what follows, to also cover the arithmetic of
/// the bounds themselves.
pub(crate) fn rounding(dimension: usize) -> f64 {
    (dimension as f64 / 8.0 + 16.0) * f64::from(f32::EPSILON)
}

/// A vector's codes without the codes: what the bounds need.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// The width of one step.
    step: f64,
    /// ‖x − x̂‖, not too small.
    residual: f64,
    /// ‖x̂‖, not too small.
    magnitude: f64,
}

/// Writes the codes of `vector` into `row`, padded with zeros. All components must be finite and
/// the largest in the range of [`Size::Plain`].
fn encode(vector: &[f32], row: &mut [Block]) -> Loss {
    /// A sum with this lies where floats are one apart, so that adding it rounds to an integer,
    /// which stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// Above the rounding errors of the sums below.
    const UP: f64 = 1.0 + 1e-6;

    let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    if largest == 0.0 {
        row.fill(Block::ZERO);
        return Loss { step: 0.0, residual: 0.0, magnitude: 0.0 };
    }
    let (step, inverse) = (largest / 127.0, 127.0 / largest);
    let (mut residual, mut magnitude) = (0.0, 0.0);
    for (xs, Block(codes)) in vector.chunks(BLOCK).zip(row) {
        let (mut lost, mut kept) = ([0.0_f32; 8], [0_i32; 8]);
        codes[xs.len()..].fill(0);
        for (i, (x, code)) in xs.iter().zip(codes).enumerate() {
            let rounded = x * inverse + ROUND;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within ±127 by the choice of step"
            )]
            {
                *code = (rounded.to_bits().wrapping_sub(ROUND.to_bits())) as i8;
            }
            // In steps, where a loss is at most about a half and cannot underflow.
            let part = x * inverse - (rounded - ROUND);
            lost[i % 8] += part * part;
            kept[i % 8] += i32::from(*code) * i32::from(*code);
        }
        residual += f64::from(lost.iter().sum::<f32>());
        magnitude += f64::from(kept.iter().sum::<i32>());
    }
    let step = f64::from(step);
    // x · inverse is within 2⁻²³ · 127 of the quotient, and the step of its true value: that is
    // less than 1e-4 of a step in each component.
    let blur = 1e-4 * (vector.len() as f64).sqrt();
    Loss {
        step,
        residual: step * (residual.sqrt() + blur) * UP,
        magnitude: step * magnitude.sqrt() * UP,
    }
}

/// Parts of a step that the fine codes count.
const FINE: f32 = 254.0;

/// Writes what `row` leaves of each component, in parts of a step, into `fine`.
fn encode_fine(vector: &[f32], step: f32, row: &[Block], fine: &mut [Block]) {
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for ((xs, Block(codes)), Block(fine)) in vector.chunks(BLOCK).zip(row).zip(fine) {
        fine[xs.len()..].fill(0);
        for ((x, code), fine) in xs.iter().zip(codes).zip(fine) {
            let part = (x * inverse - f32::from(*code)) * FINE;
            #[expect(clippy::cast_possible_truncation, reason = "clamped to its range")]
            {
                *fine = part.round().clamp(-127.0, 127.0) as i8;
            }
        }
    }
}

/// The `dimension` components that codes say, into `out`.
pub(crate) fn decode(
    step: f32,
    row: &[Block],
    fine: Option<&[Block]>,
    dimension: usize,
    out: &mut Vec<f32>,
) {
    out.clear();
    match fine {
        Some(fine) => {
            let part = step / FINE;
            for (Block(codes), Block(fine)) in row.iter().zip(fine) {
                let both = codes.iter().zip(fine);
                out.extend(both.map(|(c, f)| f32::from(*c) * step + f32::from(*f) * part));
            }
        }
        None => {
            for Block(codes) in row {
                out.extend(codes.iter().map(|code| f32::from(*code) * step));
            }
        }
    }
    out.truncate(dimension);
}

/// What the lower bound of a stored vector's distance is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Terms {
    bias: f32,
    gain: f32,
    residual: f32,
    magnitude: f32,
}

impl Terms {
    /// No vector: infinitely far.
    pub(crate) const ABSENT: Self = Self::only(f32::INFINITY);
    /// A vector whose codes say nothing: it has to be looked at.
    const UNKNOWN: Self = Self::only(f32::NEG_INFINITY);

    const fn only(bias: f32) -> Self {
        Self { bias, gain: 0.0, residual: 0.0, magnitude: 0.0 }
    }

    /// Writes the codes of `vector` into `row`.
    pub(crate) fn encode(metric: Metric, vector: &[f32], size: Size, row: &mut [Block]) -> Self {
        let norm = match size {
            Size::Plain(norm) => f64::from(norm),
            Size::Zero => 0.0,
            Size::Extreme => {
                row.fill(Block::ZERO);
                return Self::UNKNOWN;
            }
        };
        if row.is_empty() && !vector.is_empty() {
            return Self::UNKNOWN;
        }
        let loss = encode(vector, row);
        Self::new(metric, norm, loss, vector.len())
    }

    /// Writes the codes of `vector`, of plain size, into `row`, and what is left below one step
    /// into `fine` if that is kept; leaves in `rounded` what they say, and gives the terms, the
    /// step and the size of that. `None` if it cannot be kept by codes.
    pub(crate) fn encode_rounded(
        metric: Metric,
        vector: &[f32],
        row: &mut [Block],
        fine: Option<&mut [Block]>,
        rounded: &mut Vec<f32>,
    ) -> Option<(Self, f32, Size)> {
        if row.is_empty() && !vector.is_empty() {
            return None;
        }
        let Loss { step, magnitude, .. } = encode(vector, row);
        #[expect(clippy::cast_possible_truncation, reason = "it came from a float")]
        let narrow = step as f32;
        match fine {
            Some(fine) => {
                encode_fine(vector, narrow, row, fine);
                decode(narrow, row, Some(fine), vector.len(), rounded);
            }
            None => decode(narrow, row, None, vector.len(), rounded),
        }
        let codes = row.iter().flat_map(|Block(codes)| codes);
        let lost = rounded.iter().zip(codes).map(|(x, code)| {
            let lost = f64::from(*x) - step * f64::from(*code);
            lost * lost
        });
        let residual = lost.sum::<f64>().sqrt() * (1.0 + 1e-6);
        let size = Size::of(rounded);
        let norm = match size {
            Size::Plain(norm) => f64::from(norm),
            Size::Zero => 0.0,
            Size::Extreme => return None,
        };
        let loss = Loss { step, residual, magnitude };
        Some((Self::new(metric, norm, loss, vector.len()), narrow, size))
    }

    /// The terms of a vector of `dimension` components.
    fn new(metric: Metric, norm: f64, loss: Loss, dimension: usize) -> Self {
        let Loss { step, residual, magnitude } = loss;
        let rounding = rounding(dimension);
        let near_one = 1.0 - 1e-6;
        let [bias, gain, residual, magnitude] = match metric {
            // A distance is at most (‖q‖+‖x‖)² ≤ 2(‖q‖²+‖x‖²).
            Metric::L2 => {
                [norm * norm * (1.0 - 2.0 * rounding), 2.0 * step, 2.0 * residual, 2.0 * magnitude]
            }
            Metric::Cosine if norm == 0.0 => [near_one, 0.0, 0.0, 0.0],
            Metric::Cosine => [near_one, step / norm, residual / norm + rounding, magnitude / norm],
            Metric::InnerProduct => [near_one, step, residual + rounding * norm, magnitude],
        };
        #[expect(clippy::cast_possible_truncation, reason = "the bounds leave room for it")]
        let [bias, gain, residual, magnitude] = [bias, gain, residual, magnitude].map(|x| x as f32);
        Self { bias, gain, residual, magnitude }
    }

    /// Bytes of the terms of one vector, saved.
    pub(crate) const BYTES: usize = 16;

    /// The terms as bytes: four numbers, little-endian.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let all = [self.bias, self.gain, self.residual, self.magnitude];
        for (to, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(all) {
            *to = number.to_le_bytes();
        }
        bytes
    }

    /// The terms that were saved as these bytes.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (numbers, _) = bytes.as_chunks::<4>();
        let number = |at: usize| numbers.get(at).map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
        Self { bias: number(0), gain: number(1), residual: number(2), magnitude: number(3) }
    }

    /// True if there is no vector.
    pub(crate) fn absent(self) -> bool {
        self.bias == f32::INFINITY
    }

    /// True if the codes say nothing about the vector.
    pub(crate) fn unknown(self) -> bool {
        self.bias == f32::NEG_INFINITY
    }

    /// Where the codes stand as a point: the factor that takes codes to components, and the
    /// squared length. Under cosine the point is scaled to about length 1.
    pub(crate) fn point(self, metric: Metric) -> (f32, f32) {
        match metric {
            Metric::L2 => (self.gain / 2.0, self.magnitude * self.magnitude / 4.0),
            Metric::Cosine | Metric::InnerProduct => (self.gain, self.magnitude * self.magnitude),
        }
    }
}

/// A query's codes.
pub(crate) struct QueryCodes {
    /// One row.
    pub(crate) row: Vec<Block>,
    offset: f32,
    step: f32,
    norm: f32,
    residual: f32,
    /// The part of the largest possible error that is usual.
    usual: f32,
}

impl QueryCodes {
    /// The codes of a query of plain size. `None` if vectors like it are not quantised.
    pub(crate) fn encode(metric: Metric, query: &[f32], size: Size) -> Option<Self> {
        let norm = match size {
            Size::Plain(norm) => f64::from(norm),
            Size::Zero if metric != Metric::Cosine => 0.0,
            Size::Zero | Size::Extreme => return None,
        };
        let mut row = vec![Block::ZERO; blocks(query.len())];
        if row.is_empty() {
            return None;
        }
        let Loss { step, residual, .. } = encode(query, &mut row);
        let (offset, unit) = match metric {
            Metric::L2 => (norm * norm * (1.0 - 2.0 * rounding(query.len())), 1.0),
            Metric::Cosine => (0.0, norm),
            Metric::InnerProduct => (0.0, 1.0),
        };
        #[expect(clippy::cast_possible_truncation, reason = "the bounds leave room for it")]
        let [offset, step, norm, residual] =
            [offset, step / unit, norm / unit, residual / unit].map(|x| x as f32);
        let usual = (4.0 / (query.len() as f32).sqrt()).min(1.0);
        Some(Self { row, offset, step, norm, residual, usual })
    }

    /// No distance of the vector is less than this. +∞ if and only if it is absent.
    #[inline]
    pub(crate) fn bound(&self, terms: &Terms, dot: i32) -> f32 {
        self.estimate(terms, dot) - self.uncertain(terms)
    }

    /// About the distance, by the codes alone. +∞ if and only if the vector is absent.
    #[inline]
    pub(crate) fn estimate(&self, terms: &Terms, dot: i32) -> f32 {
        (self.offset + terms.bias) - terms.gain * (self.step * dot as f32)
    }

    /// The distance may be less than the estimate by this.
    #[inline]
    pub(crate) fn uncertain(&self, terms: &Terms) -> f32 {
        self.norm * terms.residual + self.residual * terms.magnitude
    }

    /// Hardly ever is the distance less than the estimate by more than this: the errors of single
    /// components are about as independent as rolls of dice, and their sum rarely four times its
    /// standard deviation.
    #[inline]
    pub(crate) fn usual_error(&self, terms: &Terms) -> f32 {
        self.uncertain(terms) * self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{distance::Query, kernels::Kernels};
    use proptest::prelude::*;

    const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];

    /// The lower bound and the distance, by each set of kernels; nothing if not quantised.
    fn bounds(metric: Metric, query: &[f32], vector: &[f32]) -> Vec<(f32, f32)> {
        let (size, query_size) = (Size::of(vector), Size::of(query));
        let mut row = vec![Block::ZERO; blocks(vector.len())];
        let terms = Terms::encode(metric, vector, size, &mut row);
        let Some(codes) = QueryCodes::encode(metric, query, query_size) else { return Vec::new() };
        let both = |kernels: &'static Kernels| {
            let mut dot = [0];
            kernels.scan(&codes.row, &row, &mut dot);
            let query = Query { metric, kernels, vector: query, size: query_size };
            (codes.bound(&terms, dot[0]), query.distance(vector, size))
        };
        Kernels::available().map(both).collect()
    }

    /// Pairs with components of one magnitude, of many, and with a common part.
    fn pairs() -> impl Strategy<Value = Vec<(f32, f32)>> {
        let length = 1..300_usize;
        let even = prop::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), length.clone());
        let mixed = ((-1.0_f32..1.0, -8_i32..8), (-1.0_f32..1.0, -8_i32..8));
        let scaled = |(x, exponent): (f32, i32)| x * 10_f32.powi(exponent);
        let mixed = mixed.prop_map(move |(a, b)| (scaled(a), scaled(b)));
        let alike = (-1.0_f32..1.0, -1e-4_f32..1e-4).prop_map(|(x, y)| (x, x + y));
        let offset = (-1.0_f32..1.0, -1.0_f32..1.0).prop_map(|(x, y)| (x + 1e3, y + 1e3));
        prop_oneof![
            even,
            prop::collection::vec(mixed, length.clone()),
            prop::collection::vec(alike, length.clone()),
            prop::collection::vec(offset, length),
        ]
    }

    proptest! {
        #[test]
        fn no_distance_is_below_its_bound(pairs in pairs(), exponents in (-9_i32..17, -9_i32..17)) {
            let scale = |xs: Vec<f32>, by: i32| -> Vec<f32> {
                xs.into_iter().map(|x| x * 10_f32.powi(by)).collect()
            };
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let (far, same) = ((scale(a.clone(), exponents.0), scale(b.clone(), exponents.1)), (a, b));
            for (a, b) in [&far, &same] {
                for metric in METRICS {
                    for (bound, distance) in bounds(metric, a, b) {
                        prop_assert!(bound <= distance, "{metric:?}: {bound} > {distance}");
                    }
                    for (bound, distance) in bounds(metric, a, a) {
                        prop_assert!(bound <= distance, "{metric:?}, itself: {bound} > {distance}");
                    }
                }
            }
        }

        #[test]
        fn a_loss_is_what_was_lost(
            vector in prop::collection::vec(-1.0_f32..1.0, 1..300), exponent in -8_i32..17
        ) {
            let vector: Vec<f32> = vector.iter().map(|x| x * 10_f32.powi(exponent)).collect();
            let mut row = vec![Block([1; BLOCK]); blocks(vector.len())];
            let loss = encode(&vector, &mut row);
            let mut codes = row.iter().flat_map(|Block(codes)| codes);
            let (mut lost, mut kept) = (0.0, 0.0);
            for x in &vector {
                let decoded = loss.step * f64::from(*codes.next().unwrap());
                prop_assert!((decoded - f64::from(*x)).abs() <= 0.5001 * loss.step);
                lost += (decoded - f64::from(*x)).powi(2);
                kept += decoded.powi(2);
            }
            prop_assert!(codes.all(|code| *code == 0));
            // Not too small, and hardly too large.
            let (lost, kept) = (lost.sqrt(), kept.sqrt());
            prop_assert!((lost..=lost * 1.001 + loss.step * 0.01).contains(&loss.residual));
            prop_assert!((kept..=kept * 1.001).contains(&loss.magnitude));
        }
    }

    #[test]
    fn bounds_are_close_enough_to_rule_out_nearly_everything() {
        let wave = |phase: f32| -> Vec<f32> {
            (0..=255_u8).chain(0..=127).map(|i| (f32::from(i) * phase).sin()).collect()
        };
        for (bound, distance) in bounds(Metric::Cosine, &wave(0.7), &wave(1.3)) {
            assert!(distance - bound < 0.015, "{bound} {distance}");
        }
    }

    #[test]
    fn an_absent_vector_is_infinitely_far_and_an_unknown_one_always_near() {
        let query = QueryCodes::encode(Metric::L2, &[1.0, 2.0], Size::of(&[1.0, 2.0])).unwrap();
        assert!(query.bound(&Terms::ABSENT, 0) == f32::INFINITY && Terms::ABSENT.absent());
        assert!(query.bound(&Terms::UNKNOWN, 0) == f32::NEG_INFINITY && !Terms::UNKNOWN.absent());
        let huge = [f32::MAX; 2];
        let mut row = [Block([1; BLOCK])];
        let terms = Terms::encode(Metric::L2, &huge, Size::of(&huge), &mut row);
        assert!(terms.bias == f32::NEG_INFINITY && row[0].0 == [0; BLOCK]);
    }
}
