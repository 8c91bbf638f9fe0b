//! Vectors that int8 codes describe badly, and floats at the ends of their range.

use crate::data::{METRICS, Random, assert_ordered, distance, index, nearest};
use proptest::prelude::*;
use tenantry_index::{Allow, ExactIndex};
use tenantry_types::Metric;

/// Searches must agree with the originals bit for bit, and with the definition up to rounding.
fn check(name: &str, vectors: &[Vec<f32>], queries: &[Vec<f32>]) {
    for metric in METRICS {
        let index = index(metric, vectors);
        for query in queries {
            let found = index.search(query, 10, Allow::All);
            assert_eq!(found.len(), 10);
            assert_ordered(&found);
            assert_eq!(found, index.search_originals(query, 10, Allow::All), "{name} {metric:?}");
            let expected = nearest(metric, (0..).zip(vectors), query, 10);
            let size: f64 = vectors
                .iter()
                .chain([query])
                .map(|x| distance(Metric::L2, x, &vec![0.0; x.len()]))
                .fold(if metric == Metric::Cosine { 1.0 } else { 0.0 }, f64::max);
            for (found, (_, wanted)) in found.iter().zip(expected) {
                let error = (f64::from(found.distance) - wanted).abs();
                let allowed = if metric == Metric::Cosine { 1e-5 } else { 1e-5 * size.max(1.0) };
                assert!(error <= allowed, "{name} {metric:?}: {found:?} {wanted}");
            }
        }
    }
}

#[test]
fn data_that_quantises_badly_is_still_searched_exactly() {
    let mut random = Random(6);
    let plain = random.clusters(1_010, 5, 70);
    let changed = |change: &mut dyn FnMut(usize, &mut Vec<f32>)| -> Vec<Vec<f32>> {
        let mut vectors = plain.clone();
        vectors.iter_mut().enumerate().for_each(|(i, vector)| change(i, vector));
        vectors
    };
    let sets = [
        ("one component dwarfs the others", changed(&mut |_, v| v[3] += 1e4)),
        ("a common offset", changed(&mut |_, v| v.iter_mut().for_each(|x| *x += 1e3))),
        ("sparse", changed(&mut |i, v| v.iter_mut().skip(1 + i % 7).for_each(|x| *x = 0.0))),
        (
            "many sizes",
            changed(&mut |i, v| {
                let factor = 10_f32.powi(i32::try_from(i % 30).unwrap() - 15);
                for x in v {
                    *x *= factor;
                }
            }),
        ),
        (
            "some zeros",
            changed(&mut |i, v| {
                if i % 3 == 0 {
                    v.fill(0.0);
                }
            }),
        ),
        ("tight", changed(&mut |_, v| v.iter_mut().for_each(|x| *x = 1.0 + *x * 1e-5))),
    ];
    for (name, mut vectors) in sets {
        let queries = vectors.split_off(1_000);
        check(name, &vectors, &queries);
    }
}

#[test]
fn every_dimension_is_searched_exactly() {
    let mut random = Random(7);
    for dimension in [0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 129, 1_000, 1_536] {
        let mut vectors = random.clusters(310, 5, dimension);
        let queries = vectors.split_off(300);
        check(&dimension.to_string(), &vectors, &queries);
    }
}

#[test]
fn dimensions_too_high_for_the_integer_kernels_are_searched_exactly() {
    let mut random = Random(8);
    for dimension in [65_536, 65_537] {
        let mut vectors: Vec<Vec<f32>> =
            (0..182).map(|_| (0..dimension).map(|_| random.uniform() - 0.5).collect()).collect();
        let queries = vectors.split_off(180);
        check(&dimension.to_string(), &vectors, &queries);
    }
}

#[test]
fn cosine_with_a_zero_vector_is_exactly_one() {
    let huge = vec![f32::MAX; 8];
    let tiny = vec![f32::from_bits(1); 8];
    let mut index = ExactIndex::new(Metric::Cosine, 8);
    index.set(0, &[0.0; 8]);
    for query in [&[0.0; 8], &[1.0; 8], huge.as_slice(), tiny.as_slice()] {
        assert!(index.search(query, 1, Allow::All)[0].distance.total_cmp(&1.0).is_eq());
    }
    for (slot, vector) in [(0, huge), (1, tiny), (2, vec![1.0; 8]), (3, vec![0.0; 8])] {
        index.set(slot, &vector);
    }
    let found = index.search(&[0.0; 8], 10, Allow::All);
    assert_eq!(found.iter().map(|one| one.slot).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(found.iter().all(|one| one.distance.total_cmp(&1.0).is_eq()));
}

#[test]
fn cosine_sees_directions_at_any_length() {
    for length in [f32::from_bits(1), 1e-38, 1e-20, 1e-10, 1.0, 1e18, 1e25, f32::MAX] {
        let mut index = ExactIndex::new(Metric::Cosine, 2);
        index.set(0, &[-length, 0.0]);
        index.set(1, &[0.0, length]);
        index.set(2, &[length, 0.0]);
        for query in [f32::from_bits(1), 1e-30, 1.0, 1e30, f32::MAX] {
            let found = index.search(&[query, 0.0], 3, Allow::All);
            let found: Vec<_> = found.iter().map(|one| (one.slot, one.distance)).collect();
            assert_eq!(found[1], (1, 1.0), "{length} {query}");
            assert_eq!((found[0].0, found[2].0), (2, 0), "{length} {query}");
            assert!(found[0].1 < 1e-6 && found[2].1 > 2.0 - 1e-6, "{length} {query}");
        }
    }
}

#[test]
fn distances_beyond_the_range_are_infinite_and_ordered() {
    let mut index = ExactIndex::new(Metric::L2, 4);
    index.set(0, &[f32::MAX; 4]);
    index.set(1, &[0.0; 4]);
    index.set(2, &[f32::MIN; 4]);
    let found = index.search(&[f32::MIN; 4], 3, Allow::All);
    let found: Vec<_> = found.iter().map(|one| (one.slot, one.distance)).collect();
    assert_eq!(found, [(2, 0.0), (0, f32::INFINITY), (1, f32::INFINITY)]);

    let mut index = ExactIndex::new(Metric::InnerProduct, 4);
    index.set(0, &[f32::MIN, f32::MIN, 0.0, 0.0]);
    index.set(1, &[f32::MAX, f32::MIN, 0.0, 0.0]);
    index.set(2, &[f32::MAX, f32::MAX, 0.0, 0.0]);
    let found = index.search(&[f32::MAX; 4], 3, Allow::All);
    let found: Vec<_> = found.iter().map(|one| (one.slot, one.distance)).collect();
    assert_eq!(found, [(2, f32::NEG_INFINITY), (1, 1.0), (0, f32::INFINITY)]);
}

/// Any float, with a bias to the ends of the range.
fn any_component() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1.0_f32..1.0,
        1 => any::<f32>(),
        1 => prop::sample::select(vec![
            0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, f32::from_bits(1), 1e-10, 1e18,
            1e19, f32::INFINITY, f32::NEG_INFINITY, f32::NAN,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_float_causes_a_panic_a_nan_or_a_missing_neighbour(
        odd in prop::collection::vec(prop::collection::vec(any_component(), 6), 1..60),
        query in prop::collection::vec(any_component(), 6),
        k in 1_usize..40,
        seed in any::<u64>(),
    ) {
        let mut vectors = Random(seed).clusters(300, 3, 6);
        vectors.extend(odd);
        let mut queries = vec![query];
        queries.extend(vectors[298..302.min(vectors.len())].iter().cloned());
        for metric in METRICS {
            let index = index(metric, &vectors);
            for query in &queries {
                let found = index.search(query, k, Allow::All);
                assert_ordered(&found);
                prop_assert_eq!(found.len(), k);
                prop_assert_eq!(found, index.search_originals(query, k, Allow::All));
            }
        }
    }
}
