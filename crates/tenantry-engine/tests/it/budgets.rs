//! What a tenant may use in a day and a month, of requests and of money.

use crate::support::*;
use tenantry_engine::*;

const PRICE: u64 = 100;

fn plan() -> PlanName {
    PlanName::parse("p").unwrap()
}

/// Gives the tenant a plan with these quotas.
async fn give(world: &World, quotas: Quotas) {
    let allowance = Allowance { quotas, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(plan(), allowance)).await.unwrap();
    let change = TenantChange { plan: Some(Some(plan())), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
}

/// Has a request cost [`PRICE`] from the month on in which tests begin.
async fn price(world: &World) {
    let tariff = Tariff([(Meter::Requests, Price(PRICE * 1_000_000_000))].into());
    let month = Hour::of(Timestamp(START)).month();
    world.operator().put_tariff(&plan(), month, tariff).await.unwrap();
}

/// Asks once; the seconds to wait if that is refused.
async fn serve(world: &World, key: &str) -> Option<u64> {
    let who = world.who(key).await;
    if let Err(why) = world.engine.admit(&who).await.unwrap().check() {
        assert_eq!(why.kind(), ErrorKind::LimitExceeded);
        return why.retry_after();
    }
    let database = world.database::<Read>(key).await;
    database.collection(&collection("c")).await.unwrap().count(None).await.unwrap();
    None
}

fn money(cost: u64) -> Quotas {
    Quotas { cost: Some(cost), ..Quotas::default() }
}

/// Seconds from a moment to the end of its month.
fn to_the_end(at: u64) -> u64 {
    (Hour::of(Timestamp(at)).month().end().0 - at) / 1_000
}

#[tokio::test]
async fn a_month_ends_when_it_costs_what_it_may_and_stays_so_after_a_restart() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    world.collection(&key, "c").await;
    give(&world, money(4 * PRICE)).await;
    price(&world).await;
    // One was the collection. What they cost is known when somebody looks.
    for _ in 0..3 {
        assert_eq!(serve(&world, &key).await, None);
    }
    world.engine.add_up().await;
    let end = to_the_end(START);
    assert_eq!(serve(&world, &key).await, Some(end));
    let who = world.who(&key).await;
    let why = world.engine.admit(&who).await.unwrap().check().unwrap_err();
    let told = why.public_message();
    assert!(told.starts_with("this tenant's budget of the month is used up;"), "{told}");
    // It is what the bill says.
    let month = Hour::of(Timestamp(START)).month();
    let bill = world.session::<Admin>(&key).await.bill(month).await.unwrap();
    assert_eq!(bill.total, MicroUnits(u128::from(4 * PRICE)));
    drop(who);

    let world = world.again().await;
    assert_eq!(serve(&world, &key).await, Some(end));
    // More for this month, and less than was used.
    give(&world, money(5 * PRICE)).await;
    assert_eq!(serve(&world, &key).await, None);
    world.engine.add_up().await;
    assert_eq!(serve(&world, &key).await, Some(end));
    world.clock.set(START + end * 1_000);
    for _ in 0..5 {
        assert_eq!(serve(&world, &key).await, None);
    }
    world.engine.add_up().await;
    assert_eq!(serve(&world, &key).await, Some(to_the_end(START + end * 1_000)));
}

#[tokio::test]
async fn without_a_tariff_nothing_costs_anything() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    world.collection(&key, "c").await;
    give(&world, money(0)).await;
    for _ in 0..3 {
        assert_eq!(serve(&world, &key).await, None);
        world.engine.add_up().await;
    }
    // What was used so far costs something from now on.
    price(&world).await;
    world.engine.add_up().await;
    assert_eq!(serve(&world, &key).await, Some(to_the_end(START)));
}

#[tokio::test]
async fn an_exception_is_a_budget_of_its_own() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    world.collection(&key, "c").await;
    give(&world, money(PRICE)).await;
    price(&world).await;
    assert!(serve(&world, &key).await.is_some());
    let except = async |amount| {
        let mut except = ExceptionChange::default();
        except.make(Term::Cost, amount, None).unwrap();
        let change = TenantChange { except, ..TenantChange::default() };
        world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    };
    except(Amount::of(2 * PRICE)).await;
    assert_eq!(serve(&world, &key).await, None);
    world.engine.add_up().await;
    assert!(serve(&world, &key).await.is_some());
    except(Amount::default()).await;
    assert_eq!(serve(&world, &key).await, None);
}

#[tokio::test]
async fn looks_of_a_tenant_that_does_nothing_make_no_commits() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    c.write(WriteMode::Upsert, vec![write("a").vector(&[1.0, 0.0])]).await.unwrap();
    let quotas = Quotas { day: Some(100), ..money(1_000 * PRICE) };
    give(&world, quotas).await;
    price(&world).await;
    // Known, without a read that the audit log tells of later.
    let who = world.who(&key).await;
    world.engine.admit(&who).await.unwrap().check().unwrap();
    world.engine.add_up().await;
    let commits = world.engine.totals().store.commits;
    for n in 1..=5 {
        world.clock.set(START + n * 60_000);
        world.engine.add_up().await;
    }
    assert_eq!(world.engine.totals().store.commits, commits);
}

#[tokio::test]
async fn looks_beside_requests_count_none_of_them_twice() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let most = 60;
    give(&world, Quotas { day: Some(most + 1), ..Quotas::default() }).await;
    let who = world.who(&key).await;
    let looks = async {
        for _ in 0..8 {
            world.engine.add_up().await;
        }
    };
    let requests = async {
        for n in 0..most {
            let admitted = world.engine.admit(&who).await.unwrap();
            admitted.check().unwrap_or_else(|why| panic!("{n}: {why}"));
            if n % 2 == 0 {
                c.write(WriteMode::Upsert, vec![write("a").vector(&[1.0, 0.0])]).await.unwrap();
            } else {
                c.count(None).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(looks, requests);
    // One may have been under way when somebody looked.
    world.engine.add_up().await;
    assert!(world.engine.admit(&who).await.unwrap().check().is_err());
}
