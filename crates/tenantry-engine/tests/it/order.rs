//! The order of records and slices of it.

use crate::support::*;
use proptest::prelude::*;
use tenantry_engine::*;

async fn sorted<L: Level>(c: &Collection<L>, order: Order) -> Vec<String> {
    let request = GetRequest { order, ..GetRequest::default() };
    c.get(&request).await.unwrap().into_iter().map(|r| r.id.into_string()).collect()
}

fn by_key(key: &str, descending: bool) -> Order {
    Order::Key { key: key.to_owned(), descending }
}

#[tokio::test]
async fn records_come_in_the_order_asked_for() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let batch = vec![
        write("int2").set("k", Value::Int(2)),
        write("none1"),
        write("textb").set("k", text("b")),
        write("float").set("k", Value::Float(1.5)),
        write("int2-again").set("k", Value::Int(2)),
        write("truth").set("k", Value::Bool(false)),
        write("Text").set("k", text("B")),
        write("two").set("k", Value::Float(2.0)),
        write("none0").set("other", Value::Int(0)),
        write("list").set("k", Value::List(vec![Value::Int(0)])),
        write("texta").set("k", text("a")),
    ];
    let inserted: Vec<String> = batch.iter().map(|r| r.id.to_string()).collect();
    c.write(WriteMode::Upsert, batch).await.unwrap();
    assert_eq!(sorted(&c, Order::Insertion).await, inserted);
    let mut named = inserted.clone();
    named.sort();
    assert_eq!(sorted(&c, Order::Id).await, named);

    let up = [
        "float",
        "int2",
        "int2-again",
        "two",
        "Text",
        "texta",
        "textb",
        "truth",
        "list",
        "none1",
        "none0",
    ];
    assert_eq!(sorted(&c, by_key("k", false)).await, up);
    // Values turn round; ties stay in insertion order, and records without the key stay last.
    let down = [
        "truth",
        "list",
        "textb",
        "texta",
        "Text",
        "int2",
        "int2-again",
        "two",
        "float",
        "none1",
        "none0",
    ];
    assert_eq!(sorted(&c, by_key("k", true)).await, down);
    assert_eq!(sorted(&c, by_key("nobody has it", true)).await, inserted);

    // Updates do not move a record.
    c.write(WriteMode::Upsert, vec![write("int2").text("changed")]).await.unwrap();
    assert_eq!(sorted(&c, Order::Insertion).await, inserted);
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Insertion),
        Just(Order::Id),
        any::<bool>().prop_map(|descending| by_key("k", descending)),
    ]
}

#[test]
fn a_slice_is_a_slice_of_the_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_world, c) = runtime.block_on(async {
        let world = World::new().await;
        let key = world.tenant("acme").await;
        let c = world.collection(&key, "c").await;
        let batch = (0..40_i64).map(|n| {
            let record =
                write(&format!("{:02}", n * 17 % 40)).text(if n % 2 == 0 { "x" } else { "y" });
            if n % 5 == 0 { record } else { record.set("k", Value::Int(n % 7)) }
        });
        c.write(WriteMode::Upsert, batch.collect()).await.unwrap();
        (world, c)
    });
    let mut runner = proptest::test_runner::TestRunner::default();
    let strategy =
        (any_order(), proptest::option::of(0_usize..50), 0_usize..50, any::<bool>(), any::<bool>());
    runner
        .run(&strategy, |(order, limit, offset, filtered, listed)| {
            let filter = filtered.then(|| Filter::Text(TextTest::Contains("x".into())));
            let ids = listed.then(|| (0..30).rev().map(|n| id(&format!("{n:02}"))).collect());
            let select = Selector { ids, filter };
            let whole = GetRequest { select, order, include: ALL, ..GetRequest::default() };
            let slice = GetRequest { page: Page { limit, offset }, ..whole.clone() };
            let (whole, slice) = runtime
                .block_on(async { (c.get(&whole).await.unwrap(), c.get(&slice).await.unwrap()) });
            let expected: Vec<_> =
                whole.into_iter().skip(offset).take(limit.unwrap_or(usize::MAX)).collect();
            prop_assert_eq!(slice, expected);
            Ok(())
        })
        .unwrap();
}
