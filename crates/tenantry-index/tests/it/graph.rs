//! Graphs: recall, churn, filters, determinism.

use crate::data::{METRICS, Random, find, graphed, mean_recall, mean_recall_at, scan, settle};
use std::collections::BTreeSet;
use tenantry_index::{Allow, IndexConfig, Plan, SearchOptions, Storage, VectorIndex};
use tenantry_types::Metric;

const DIMENSION: usize = 64;

/// Clustered vectors, and queries from the same clusters.
fn clusters(count: usize, seed: u64) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut vectors = Random(seed).clusters(count + 100, count / 100, DIMENSION);
    let queries = vectors.split_off(count);
    (vectors, queries)
}

fn built(metric: Metric, vectors: &[Vec<f32>]) -> VectorIndex {
    let mut index = graphed(metric, DIMENSION, 1_000);
    for (slot, vector) in (0..).zip(vectors) {
        index.set(slot, vector);
    }
    settle(&mut index);
    let progress = index.progress();
    assert_eq!((progress.linked, progress.pending, progress.deleted), (vectors.len(), 0, 0));
    index
}

#[test]
fn twenty_thousand_vectors_are_found_by_walking_with_a_recall_of_98_percent() {
    let (vectors, queries) = clusters(20_000, 11);
    for (metric, count) in METRICS.into_iter().zip([10_000, 20_000, 10_000]) {
        let index = built(metric, &vectors[..count]);
        let recall = mean_recall(&index, &queries, Allow::All);
        assert!(recall >= 0.98, "{metric:?}: {recall}");
        let found = find(&index, &queries[0], 10, Allow::All);
        assert_eq!(found.plan, Plan::Graph);
        assert!(found.compared_codes < 4_000 && found.compared_originals < 100, "{found:?}");
    }
}

#[test]
fn inner_products_of_vectors_of_many_lengths_are_found() {
    let (mut vectors, queries) = clusters(10_000, 12);
    let mut random = Random(13);
    for vector in &mut vectors {
        let length = 0.5 + 1.5 * random.uniform();
        *vector = vector.iter().map(|x| x * length).collect();
    }
    let index = built(Metric::InnerProduct, &vectors);
    let recall = mean_recall(&index, &queries, Allow::All);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn recall_stays_when_a_tenth_and_then_half_of_the_vectors_are_replaced() {
    let (vectors, queries) = clusters(6_000, 14);
    let (others, _) = clusters(6_000, 15);
    for metric in METRICS {
        let mut index = built(metric, &vectors);
        let before = mean_recall(&index, &queries, Allow::All);
        let mut next = 0;
        for (part, drop_max) in [(600, 0.005), (2_400, 0.01)] {
            for (step, other) in others[next..next + part].iter().enumerate() {
                let slot = u32::try_from((next + step) * 7 % 6_000).expect("small");
                if step % 2 == 0 {
                    index.clear(slot);
                    assert!(!index.contains(slot));
                }
                index.set(slot, other);
                // Served meanwhile: what was written is found at once.
                if step % 50 == 0 {
                    let found = find(&index, other, 1, Allow::All).neighbours;
                    let best = scan(&index, other, 1, Allow::All).neighbours;
                    assert_eq!(found[0].slot, best[0].slot, "{metric:?}");
                }
                if let Some(work) = index.work() {
                    index.apply(work);
                }
            }
            next += part;
            settle(&mut index);
            let recall = mean_recall(&index, &queries, Allow::All);
            assert!(recall >= before - drop_max, "{metric:?}: {before} to {recall}");
        }
    }
}

#[test]
fn what_was_cleared_is_never_found_and_the_rest_is_as_in_a_new_graph() {
    let (vectors, queries) = clusters(6_000, 16);
    for metric in METRICS {
        let mut index = built(metric, &vectors);
        let mut cleared = BTreeSet::new();
        // Whole clusters, and every third of the rest.
        for slot in (0..6_000).filter(|slot| slot % 60 < 6 || slot % 3 == 0) {
            index.clear(slot);
            cleared.insert(slot);
            if slot % 100 == 0 {
                let query = &vectors[slot as usize];
                let found = find(&index, query, 20, Allow::All).neighbours;
                assert_eq!(found.len(), 20);
                assert!(found.iter().all(|one| !cleared.contains(&one.slot)));
            }
        }
        let mut fresh = graphed(metric, DIMENSION, 1_000);
        for (slot, vector) in (0..).zip(&vectors).filter(|(slot, _)| !cleared.contains(slot)) {
            fresh.set(slot, vector);
        }
        settle(&mut fresh);
        let wanted = mean_recall(&fresh, &queries, Allow::All) - 0.01;
        let recall = mean_recall(&index, &queries, Allow::All);
        assert!(recall >= wanted, "{metric:?} before repair: {recall} {wanted}");
        settle(&mut index);
        assert!(index.progress().deleted <= 6_000 / 4_096, "{:?}", index.progress());
        let recall = mean_recall(&index, &queries, Allow::All);
        assert!(recall >= wanted, "{metric:?} after repair: {recall} {wanted}");
    }
}

#[test]
fn filters_random_and_correlated_keep_the_recall() {
    let (vectors, queries) = clusters(20_000, 17);
    for (metric, count) in METRICS.into_iter().zip([8_000, 20_000, 8_000]) {
        let index = built(metric, &vectors[..count]);
        let slots = || 0..u32::try_from(count).expect("small");
        for part in [2, 10, 100, 1_000] {
            let mut random = Random(part);
            let scattered: Vec<u32> =
                slots().filter(|_| random.next().is_multiple_of(part)).collect();
            // The nearest to a vector, so that most queries are far from all of them.
            let wanted = count / usize::try_from(part).expect("small");
            let near = scan(&index, &vectors[7], wanted, Allow::All).neighbours;
            let mut cluster: Vec<u32> = near.iter().map(|one| one.slot).collect();
            cluster.sort_unstable();
            // All but those: queries amid what is not allowed.
            let other: Vec<u32> =
                slots().filter(|slot| cluster.binary_search(slot).is_err()).collect();
            for (name, slots) in [("random", scattered), ("cluster", cluster), ("other", other)] {
                let recall = mean_recall(&index, &queries, Allow::Slots(&slots));
                assert!(recall >= 0.98, "{metric:?} 1/{part} {name}: {recall}");
                let bitmap = slots.iter().copied().collect();
                let query = &queries[3];
                let listed = find(&index, query, 10, Allow::Slots(&slots));
                assert_eq!(listed, find(&index, query, 10, Allow::Bitmap(&bitmap)));
                let scanned = scan(&index, query, 10, Allow::Bitmap(&bitmap));
                assert_eq!(scanned.plan, Plan::ExactAllowed);
                assert!(listed.neighbours.iter().all(|one| bitmap.contains(one.slot)));
            }
        }
    }
}

#[test]
fn the_planner_walks_through_wide_filters_and_scans_narrow_ones() {
    let (vectors, queries) = clusters(12_000, 18);
    let index = built(Metric::Cosine, &vectors);
    let plan = |every: usize| {
        let slots: Vec<u32> = (0..12_000).step_by(every).collect();
        find(&index, &queries[0], 10, Allow::Slots(&slots)).plan
    };
    assert_eq!([plan(1), plan(2)], [Plan::GraphFiltered; 2]);
    assert_eq!([plan(50), plan(12_000)], [Plan::ExactAllowed; 2]);
    assert_eq!(find(&index, &queries[0], 9_000, Allow::All).plan, Plan::ExactAll);
}

#[test]
fn the_same_operations_build_the_same_graph_and_another_seed_another() {
    let (vectors, _) = clusters(3_000, 19);
    let history = |seed: u64| {
        let config = IndexConfig { graph_above: 1_000, seed, ..IndexConfig::default() };
        let mut index = VectorIndex::new(Metric::Cosine, DIMENSION, config);
        for (slot, vector) in (0..).zip(&vectors) {
            index.set(slot, vector);
            if slot % 3 == 0
                && let Some(work) = index.work()
            {
                index.apply(work);
            }
        }
        (0..3_000).step_by(5).for_each(|slot| index.clear(slot));
        (0..3_000).step_by(10).for_each(|slot| index.set(slot, &vectors[7]));
        settle(&mut index);
        index.save().expect("a graph")
    };
    assert!(history(1) == history(1));
    assert!(history(1) != history(2));
}

#[test]
fn many_copies_of_a_vector_do_not_hide_it_or_each_other() {
    let (mut vectors, queries) = clusters(4_000, 20);
    let copy = vectors[0].clone();
    for slot in (0..4_000).step_by(4) {
        vectors[slot].clone_from(&copy);
    }
    for metric in METRICS {
        let index = built(metric, &vectors);
        let recall = mean_recall(&index, &queries, Allow::All);
        assert!(recall >= 0.97, "{metric:?}: {recall}");
        for k in [10, 100] {
            let found = find(&index, &copy, k, Allow::All);
            let exact = scan(&index, &copy, k, Allow::All);
            let recall = tenantry_index::recall(&found.neighbours, &exact.neighbours);
            assert!(recall >= 0.98, "{metric:?} {k}: {recall} by {:?}", found.plan);
        }
    }
}

#[test]
fn half_and_int8_storage_cost_little_recall() {
    let (vectors, queries) = clusters(5_000, 21);
    for metric in METRICS {
        let truth = built(metric, &vectors);
        for (storage, least) in [(Storage::Half, 0.98), (Storage::Int8, 0.93)] {
            let config = IndexConfig { graph_above: 1_000, storage, ..IndexConfig::default() };
            let mut index = VectorIndex::new(metric, DIMENSION, config);
            index.reserve(vectors.len());
            for (slot, vector) in (0..).zip(&vectors) {
                index.set(slot, vector);
            }
            settle(&mut index);
            assert_eq!(index.get(5), None);
            assert!(index.contains(5));
            let slots = |index: &VectorIndex, query: &Vec<f32>| -> BTreeSet<u32> {
                let found = find(index, query, 10, Allow::All).neighbours;
                found.iter().map(|one| one.slot).collect()
            };
            let exact = |query: &Vec<f32>| -> BTreeSet<u32> {
                let found = scan(&truth, query, 10, Allow::All).neighbours;
                found.iter().map(|one| one.slot).collect()
            };
            let hits: usize = queries
                .iter()
                .map(|query| slots(&index, query).intersection(&exact(query)).count())
                .sum();
            let recall = hits as f64 / (10 * queries.len()) as f64;
            assert!(recall >= least, "{metric:?} {storage:?}: {recall}");
        }
    }
}

/// Clusters of `each` vectors, `tightness` times as wide as they are apart.
fn separated(count: usize, each: usize, tightness: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut random = Random(seed);
    let centres: Vec<_> = (0..count / each).map(|_| random.gaussian(DIMENSION)).collect();
    (0..count)
        .map(|i| {
            let centre = &centres[i % centres.len()];
            let noise = random.gaussian(DIMENSION);
            centre.iter().zip(noise).map(|(centre, x)| centre + tightness * x).collect()
        })
        .collect()
}

#[test]
fn vectors_that_codes_hardly_tell_apart_are_found() {
    // A step of a code is a fifth of what neighbours differ by in a component.
    let mut vectors = separated(8_100, 450, 0.08, 22);
    let queries = vectors.split_off(8_000);
    for metric in METRICS {
        let index = built(metric, &vectors);
        let every_second: Vec<u32> = (0..8_000).step_by(2).collect();
        for allow in [Allow::All, Allow::Slots(&every_second)] {
            for k in [1, 10] {
                let recall = mean_recall_at(&index, &queries, k, allow);
                assert!(recall >= 0.98, "{metric:?} {k}: {recall}");
            }
        }
        let how = SearchOptions { beam: Some(48), exact: false };
        let asked = index.search(&queries[0], 10, Allow::All, &how, &mut || Ok(())).unwrap();
        assert!(asked.compared_originals <= 48, "a beam that was asked for is kept to: {asked:?}");
    }
}

#[test]
fn filters_that_allow_other_clusters_than_the_query_s_own_keep_the_recall() {
    let [l2, cosine, product] = METRICS;
    for (each, tightness, metric) in [
        (100, 0.3, l2),
        (100, 0.3, cosine),
        (500, 0.1, l2),
        (500, 0.1, cosine),
        (100, 0.2, product),
    ] {
        let mut vectors = separated(6_100, each, tightness, 23);
        let queries = vectors.split_off(6_000);
        let clusters = u32::try_from(6_100 / each).expect("small");
        let index = built(metric, &vectors);
        for (allowed, of) in [(1, 2), (1, 4), (3, 4)] {
            let in_union = |slot: u32| slot % clusters % of < allowed;
            let union: Vec<u32> = (0..6_000).filter(|slot| in_union(*slot)).collect();
            let outside: Vec<_> = (6_000..)
                .zip(&queries)
                .filter(|(slot, _)| !in_union(*slot))
                .map(|(_, query)| query.clone())
                .collect();
            assert!(outside.len() > 10);
            for (k, queries) in [(1, &outside), (10, &outside), (100, &outside), (10, &queries)] {
                let recall = mean_recall_at(&index, queries, k, Allow::Slots(&union));
                assert!(recall >= 0.98, "{each} {metric:?} {allowed}/{of} {k}: {recall}");
            }
        }
    }
}

#[test]
fn a_walk_that_a_filter_leads_astray_ends_soon() {
    let mut vectors = separated(20_100, 2_000, 0.2, 24);
    let queries = vectors.split_off(20_000);
    let index = built(Metric::L2, &vectors);
    // All but the cluster of the first queries, of ten.
    let others: Vec<u32> = (0..20_000).filter(|slot| slot % 10 > 4).collect();
    let outside = queries.iter().step_by(10);
    for query in outside {
        let found = find(&index, query, 10, Allow::Slots(&others));
        assert!(found.compared_codes < 10_000 + 1_024 + 1_000, "{}", found.compared_codes);
    }
}
