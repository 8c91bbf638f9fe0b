//! Nearest-neighbour queries.

use crate::support::*;
use tenantry_engine::*;

async fn line(metric: Metric, length: u8) -> (World, Collection<Write>) {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let asked = CollectionSpec { metric, ..spec("c") };
    let (c, _) =
        world.database::<Write>(&key).await.create_collection(&asked, false).await.unwrap();
    let batch = (0..length).map(|n| {
        write(&format!("{n}"))
            .vector(&[f32::from(n), 1.0])
            .text(if n % 2 == 0 { "even" } else { "odd" })
            .set("n", Value::Int(n.into()))
    });
    c.write(WriteMode::Upsert, batch.collect()).await.unwrap();
    (world, c)
}

fn hits(answer: &[Hit]) -> Vec<(&str, f32)> {
    answer.iter().map(|hit| (hit.record.id.as_str(), hit.distance)).collect()
}

#[tokio::test]
async fn each_query_vector_gets_its_own_neighbours_nearest_first() {
    let (_world, c) = line(Metric::L2, 20).await;
    let request = QueryRequest { vectors: vec![vec![3.2, 1.0], vec![19.0, 2.0]], ..query(&[], 3) };
    let answer = c.query(&request).await.unwrap();
    let ids: Vec<Vec<&str>> =
        answer.iter().map(|a| a.iter().map(|h| h.record.id.as_str()).collect()).collect();
    assert_eq!(ids, [["3", "4", "2"], ["19", "18", "17"]]);
    assert_eq!(hits(&answer[1])[0], ("19", 1.0));
    assert!(answer.iter().all(|a| a.windows(2).all(|w| w[0].distance <= w[1].distance)));
    let empty = QueryRequest { vectors: Vec::new(), ..query(&[], 3) };
    assert!(c.query(&empty).await.unwrap().is_empty());
    assert_eq!(c.query(&query(&[0.0, 0.0], 0)).await.unwrap(), [Vec::new()]);
    assert_eq!(c.query(&query(&[0.0, 0.0], 100)).await.unwrap()[0].len(), 20);
}

#[tokio::test]
async fn ties_come_in_insertion_order() {
    let (_world, c) = line(Metric::L2, 3).await;
    c.write(WriteMode::Upsert, ["z", "y", "x"].map(|n| write(n).vector(&[1.0, 1.0])).to_vec())
        .await
        .unwrap();
    let answer = c.query(&query(&[1.0, 1.0], 4)).await.unwrap();
    assert_eq!(hits(&answer[0]), [("1", 0.0), ("z", 0.0), ("y", 0.0), ("x", 0.0)]);
}

#[tokio::test]
async fn distances_are_those_of_the_metric() {
    // The record "1" is [1, 1].
    let cases = [
        (Metric::L2, [3.0, 2.0], 5.0),
        (Metric::InnerProduct, [0.0, 2.0], -1.0),
        (Metric::Cosine, [1.0, -0.5], 1.0 - 0.5 / 2.5_f32.sqrt()),
        (Metric::Cosine, [0.0, 0.0], 1.0),
    ];
    for (metric, vector, expected) in cases {
        let (_world, c) = line(metric, 2).await;
        let answer = c.query(&query(&vector, 9)).await.unwrap();
        let one = answer[0].iter().find(|h| h.record.id.as_str() == "1").unwrap();
        assert!((one.distance - expected).abs() < 1e-5, "{metric:?}: {}", one.distance);
    }
}

#[tokio::test]
async fn a_filter_or_ids_never_cost_hits() {
    let (_world, c) = line(Metric::L2, 100).await;
    let select = |select| QueryRequest { select, ..query(&[0.0, 1.0], 3) };
    let answer = async |request: &QueryRequest| {
        let answer = c.query(request).await.unwrap();
        answer[0].iter().map(|h| h.record.id.as_str().to_owned()).collect::<Vec<_>>()
    };
    let far = test("n", FieldTest::Gte(Value::Int(97)));
    assert_eq!(answer(&select(by_filter(far.clone()))).await, ["97", "98", "99"]);
    let odd = Filter::Text(TextTest::Regex("^od{2}$".into()));
    assert_eq!(answer(&select(by_filter(far.clone().and(odd)))).await, ["97", "99"]);
    assert_eq!(answer(&select(by_ids(&["50", "none", "7", "7"]))).await, ["7", "50"]);
    let both = Selector { filter: Some(far), ..by_ids(&["99", "5"]) };
    assert_eq!(answer(&select(both)).await, ["99"]);
    assert!(answer(&select(by_ids(&[]))).await.is_empty());
    let plain = write("no vector").set("n", Value::Int(98));
    c.write(WriteMode::Upsert, vec![plain]).await.unwrap();
    assert_eq!(answer(&select(by_filter(is("n", Value::Int(98))))).await, ["98"]);
}

#[tokio::test]
async fn hits_carry_what_was_asked_for() {
    let (_world, c) = line(Metric::L2, 3).await;
    let bare = c.query(&query(&[2.0, 1.0], 1)).await.unwrap();
    let record = &bare[0][0].record;
    assert_eq!((&record.vector, &record.document, &record.metadata), (&None, &None, &None));
    let full = c.query(&QueryRequest { include: ALL, ..query(&[2.0, 1.0], 1) }).await.unwrap();
    assert_eq!(full[0][0].record, find(&c, "2").await.unwrap());
}

#[tokio::test]
async fn a_query_sees_writes_and_deletions_at_once() {
    let (_world, c) = line(Metric::L2, 5).await;
    let nearest = async || {
        let answer = c.query(&query(&[100.0, 1.0], 1)).await.unwrap();
        answer[0][0].record.id.as_str().to_owned()
    };
    assert_eq!(nearest().await, "4");
    c.write(WriteMode::Upsert, vec![write("0").vector(&[90.0, 1.0])]).await.unwrap();
    assert_eq!(nearest().await, "0");
    c.delete(&by_ids(&["0"]), None).await.unwrap();
    assert_eq!(nearest().await, "4");
    c.write(WriteMode::Upsert, vec![write("0").vector(&[95.0, 1.0])]).await.unwrap();
    assert_eq!(nearest().await, "0");
}
