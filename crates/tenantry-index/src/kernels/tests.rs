//! Every variant against arithmetic without tricks.

use super::*;
use proptest::prelude::*;

/// A vector's codes as a row of blocks.
fn row(codes: &[i8]) -> Vec<Block> {
    codes
        .chunks(BLOCK)
        .map(|chunk| {
            let mut block = Block::ZERO;
            block.0[..chunk.len()].copy_from_slice(chunk);
            block
        })
        .collect()
}

fn check_scan(query: &[i8], rows: &[Vec<i8>]) {
    let blocks: Vec<Block> = rows.iter().flat_map(|codes| row(codes)).collect();
    let expected: Vec<i32> = rows
        .iter()
        .map(|row| row.iter().zip(query).map(|(r, q)| i32::from(*r) * i32::from(*q)).sum())
        .collect();
    for kernels in Kernels::available() {
        let mut out = vec![-1; rows.len()];
        kernels.scan(&row(query), &blocks, &mut out);
        assert_eq!(out, expected, "{}", kernels.name);
        // Backwards, and the first once more.
        let numbers: Vec<u32> = (0..)
            .take(rows.len())
            .collect::<Vec<u32>>()
            .into_iter()
            .rev()
            .chain((!rows.is_empty()).then_some(0))
            .collect();
        let mut out = vec![-1; numbers.len()];
        kernels.gather(&row(query), &blocks, &numbers, &mut out);
        let expected: Vec<i32> = numbers.iter().map(|number| expected[*number as usize]).collect();
        assert_eq!(out, expected, "{}", kernels.name);
    }
}

/// Compares with a sum in 64 bits; the tolerance is relative to the sum of absolute terms, as
/// the rounding error of any order of summation is.
fn check_floats(a: &[f32], b: &[f32]) {
    let pairs = || a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let dot: f64 = pairs().map(|(a, b)| a * b).sum();
    let dot_size: f64 = pairs().map(|(a, b)| (a * b).abs()).sum();
    let squared_l2: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    let allowed = crate::quantise::rounding(a.len());
    for kernels in Kernels::available() {
        let error = (f64::from(kernels.dot(a, b)) - dot).abs();
        assert!(error <= allowed * dot_size, "{} dot: {error}", kernels.name);
        let error = (f64::from(kernels.squared_l2(a, b)) - squared_l2).abs();
        assert!(error <= allowed * squared_l2, "{} squared_l2: {error}", kernels.name);
    }
}

proptest! {
    #[test]
    fn every_scan_equals_plain_arithmetic(
        (query, rows) in (1_usize..2_000).prop_flat_map(|length| {
            let codes = || prop::collection::vec(-127_i8..=127, length);
            (codes(), prop::collection::vec(codes(), 0..6))
        })
    ) {
        check_scan(&query, &rows);
    }

    #[test]
    fn every_float_kernel_stays_within_its_rounding_bound(
        pairs in prop::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 0..2_000)
    ) {
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        check_floats(&a, &b);
    }

    #[test]
    fn every_float_kernel_takes_any_mix_of_magnitudes(
        pairs in prop::collection::vec(
            ((-1.0_f32..1.0, -9_i32..9), (-1.0_f32..1.0, -9_i32..9)), 0..200)
    ) {
        let scaled = |(mantissa, exponent): (f32, i32)| mantissa * 10_f32.powi(exponent);
        let (a, b): (Vec<f32>, Vec<f32>) =
            pairs.into_iter().map(|(a, b)| (scaled(a), scaled(b))).unzip();
        check_floats(&a, &b);
    }
}

proptest! {
    #[test]
    fn every_float_kernel_takes_denormal_numbers(
        pairs in prop::collection::vec((-0xf_ffff_i32..0xf_ffff, -0xf_ffff_i32..0xf_ffff), 0..200),
        large in any::<bool>(),
    ) {
        // Alone, where all products vanish, and beside numbers with which they do not.
        let tiny = |x: i32| x as f32 * f32::from_bits(1);
        let other = |x: i32| if large { x as f32 } else { tiny(x) };
        let (a, b): (Vec<f32>, Vec<f32>) =
            pairs.into_iter().map(|(a, b)| (tiny(a), other(b))).unzip();
        // Each product and each sum may lose half of the smallest number.
        let vanished = f64::from(f32::from_bits(1)) * (a.len() as f64 + 1.0);
        let exact = |term: fn(f64, f64) -> f64| -> f64 {
            a.iter().zip(&b).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
        };
        let (dot, size) = (exact(|a, b| a * b), exact(|a, b| (a * b).abs()));
        let squared_l2 = exact(|a, b| (a - b) * (a - b));
        let allowed = crate::quantise::rounding(a.len());
        for kernels in Kernels::available() {
            let error = (f64::from(kernels.dot(&a, &b)) - dot).abs();
            prop_assert!(error <= allowed * size + vanished, "{} {error}", kernels.name);
            let error = (f64::from(kernels.squared_l2(&a, &b)) - squared_l2).abs();
            prop_assert!(error <= allowed * squared_l2 + vanished, "{} {error}", kernels.name);
        }
    }

    #[test]
    fn every_float_kernel_agrees_with_the_scalar_one_on_what_is_not_finite(
        pairs in prop::collection::vec((-1e3_f32..1e3, -1e3_f32..1e3), 1..200),
        odd in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<bool>(), prop::sample::select(vec![
                f32::INFINITY, f32::NEG_INFINITY, f32::NAN,
            ])),
            1..4,
        ),
    ) {
        let (mut a, mut b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        for (at, first, value) in odd {
            let side = if first { &mut a } else { &mut b };
            let at = at.index(side.len());
            side[at] = value;
        }
        // Neither a sum with an infinite term nor one without a value depends on the order.
        for kernels in Kernels::available() {
            let same = |x: f32, y: f32| x.total_cmp(&y).is_eq() || (x.is_nan() && y.is_nan());
            let (ours, scalar) = (kernels.dot(&a, &b), scalar::KERNELS.dot(&a, &b));
            prop_assert!(same(ours, scalar), "{}: {ours} {scalar}", kernels.name);
            let (ours, scalar) = (kernels.squared_l2(&a, &b), scalar::KERNELS.squared_l2(&a, &b));
            prop_assert!(same(ours, scalar), "{}: {ours} {scalar}", kernels.name);
        }
    }
}

#[test]
fn no_scan_saturates_or_overflows_at_its_extremes() {
    for length in [1, 31, 32, 63, 64, 65, 128, 129, 1_536, 4_096, COMPONENTS_MAX] {
        for (q, r) in [(127, 127), (127, -127), (-127, 127), (-127, -127), (0, 127), (127, 0)] {
            check_scan(&vec![q; length], &[vec![r; length], vec![-r; length]]);
        }
        let alternating = |a, b| (0..length).map(|i| if i % 2 == 0 { a } else { b }).collect();
        let query: Vec<i8> = alternating(127, -127);
        check_scan(&query, &[alternating(127, -127), alternating(-127, 127)]);
    }
}

#[test]
fn float_kernels_take_every_tail_length_and_see_every_component() {
    for length in 0..=200 {
        let ones = vec![1.0; length];
        for kernels in Kernels::available() {
            #[expect(clippy::float_cmp, reason = "small integers are exact")]
            {
                assert_eq!(kernels.dot(&ones, &ones), length as f32);
                assert_eq!(kernels.squared_l2(&ones, &vec![3.0; length]), 4.0 * length as f32);
            }
        }
    }
}

#[test]
fn huge_floats_overflow_to_infinity_without_a_panic() {
    for length in [1, 7, 16, 100] {
        let (high, low) = (vec![f32::MAX; length], vec![f32::MIN; length]);
        for kernels in Kernels::available() {
            assert!(kernels.dot(&high, &high).is_infinite(), "{}", kernels.name);
            assert!(kernels.squared_l2(&high, &low).is_infinite(), "{}", kernels.name);
        }
    }
}

#[test]
fn the_scalar_variant_is_always_there_and_the_best_comes_first() {
    let names: Vec<_> = Kernels::available().map(|kernels| kernels.name).collect();
    assert_eq!(names.last(), Some(&"scalar"));
    assert_eq!(names[0], Kernels::best().name);
}

#[test]
#[should_panic(expected = "range")]
fn gathering_a_row_that_is_not_there_panics_and_reads_nothing() {
    Kernels::best().gather(&row(&[1; 64]), &row(&[1; 128]), &[2], &mut [0]);
}
