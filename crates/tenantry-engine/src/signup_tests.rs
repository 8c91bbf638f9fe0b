use super::*;
use crate::{EngineConfig, Select};
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};
use tenantry_auth::{Authority, Read};
use tenantry_store::{EmbeddedConfig, Store, SystemClock};
use tenantry_types::{Allowance, Places, Rate, TenantPlan, TenantState, Term};

struct World {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path().join("data"))).unwrap();
        let (authority, clock) = (Authority::new(), Arc::new(SystemClock));
        Self { engine: Engine::start(EngineConfig { store, authority, clock }), _folder: folder }
    }

    fn sign_up(&self, rules: SignUpRules) -> SignUp {
        SignUp::new(self.engine.clone(), rules)
    }

    async fn tenants(&self) -> Vec<TenantInfo> {
        let who = self.engine.local_operator().await.unwrap();
        self.engine.operator(&who).unwrap().tenants(None, 100).await.unwrap()
    }

    /// All tenants, when nothing is being made any more.
    async fn left(&self) -> Vec<TenantInfo> {
        for _ in 0..1_000 {
            let left = self.tenants().await;
            if left.iter().all(|info| info.state != TenantState::Provisioning) {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a tenant is being made for ever: {:?}", self.tenants().await);
    }
}

fn name(text: &str) -> TenantName {
    TenantName::parse(text).unwrap()
}

fn an_hour(amount: u32) -> Rates {
    Rates { hour: NonZeroU32::new(amount).map(Rate::new), ..Rates::default() }
}

fn template() -> Vec<(DatabaseName, Vec<CollectionName>)> {
    let collections = ["c", "d"].map(|text| CollectionName::parse(text).unwrap()).to_vec();
    ["a", "b"].map(|text| (DatabaseName::parse(text).unwrap(), collections.clone())).to_vec()
}

#[tokio::test]
async fn what_cannot_be_finished_leaves_nothing() {
    let world = World::new();
    let plan = PlanName::parse("p").unwrap();
    let put = async |databases: u32| {
        let limits = Limits { databases, ..Limits::default() };
        let allowance = Allowance { limits, ..Allowance::default() };
        let who = world.engine.local_operator().await.unwrap();
        let plan = TenantPlan::new(plan.clone(), allowance);
        world.engine.operator(&who).unwrap().put_plan(&plan).await.unwrap();
    };
    // The default database and one of two.
    put(2).await;
    let rules =
        SignUpRules { plan: Some(plan.clone()), template: template(), ..SignUpRules::default() };
    let sign_up = world.sign_up(rules.clone());
    let refused = sign_up.make(name("acme"), None, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!refused.public_message().contains("database"), "{refused}");
    assert_eq!(world.left().await, []);
    // The operator is told before anybody signs up.
    let who = world.engine.local_operator().await.unwrap();
    let operator = world.engine.operator(&who).unwrap();
    let refused = operator.check_sign_up(&rules).await.unwrap_err();
    assert_eq!(refused.public_message(), "this tenant may have 2 databases");
    put(3).await;
    operator.check_sign_up(&rules).await.unwrap();
    let (made, key) = sign_up.make(name("acme"), None, None).await.unwrap();
    assert_eq!((made.state, made.plan.as_ref()), (TenantState::Active, Some(&plan)));
    assert_eq!(world.left().await, [made]);
    world.engine.authenticate(Some(&key)).await.unwrap();
}

#[test]
fn a_template_needs_as_much_room_as_it_takes() {
    let mut rules = SignUpRules { template: template(), ..SignUpRules::default() };
    let fits = Limits { databases: 3, collections: 4, keys: 1, ..Limits::default() };
    let refused = |rules: &SignUpRules, limits: Limits| {
        rules.check_room(&limits).err().and_then(|why| why.limit())
    };
    for (limits, limit) in [
        (fits, None),
        (Limits { databases: 2, ..fits }, Some(Term::Databases)),
        (Limits { collections: 3, ..fits }, Some(Term::Collections)),
        (Limits { keys: 0, ..fits }, Some(Term::Keys)),
    ] {
        assert_eq!(refused(&rules, limits), limit, "{limits:?}");
    }
    // What is said twice is made once, and one database is there without a word.
    rules.template.extend(template());
    rules.template.push((DatabaseName::default_database(), Vec::new()));
    assert_eq!(refused(&rules, fits), None);
}

/// Its plan has tenants live otherwise than strangers' do.
#[tokio::test]
async fn a_stranger_gets_no_tenant_where_its_plan_has_none_live() {
    let world = World::new();
    let plan = PlanName::parse("p").unwrap();
    let who = world.engine.local_operator().await.unwrap();
    let operator = world.engine.operator(&who).unwrap();
    let put = async |isolation: Isolation| {
        let places = Places::new(Some(&[isolation]), None).unwrap();
        let plan = TenantPlan { places, ..TenantPlan::new(plan.clone(), Allowance::default()) };
        operator.put_plan(&plan).await.unwrap();
    };
    put(Isolation::Schema).await;
    let rules = SignUpRules { plan: Some(plan.clone()), ..SignUpRules::default() };
    let sign_up = world.sign_up(rules);
    let refused = sign_up.make(name("acme"), None, None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(!refused.public_message().contains("schema"), "{refused}");
    // Nor does an operator, who is told.
    world.engine.provision(crate::ProvisionRules { plan: Some(plan.clone()), rates: an_hour(9) });
    let named = async || {
        let acme = name("acme");
        world.engine.session::<Read>(&who, Select::Named(&acme)).await.map(drop)
    };
    let refused = named().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let says = "the plan p does not allow the isolation shared; it allows schema: choose another \
                plan, or change `isolations` of this one";
    assert!(refused.public_message().ends_with(says), "{refused}");
    assert_eq!(world.left().await, []);
    put(Isolation::Shared).await;
    sign_up.make(name("beta"), None, None).await.unwrap();
    named().await.unwrap();
    assert_eq!(world.left().await.len(), 2);
}

/// Polls so often, and no more.
async fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..times {
        let polled = std::future::poll_fn(|context: &mut Context<'_>| {
            Poll::Ready(future.as_mut().poll(context))
        });
        if let Poll::Ready(value) = polled.await {
            return Some(value);
        }
        // Whatever it waits for comes on: not by its own waker, so that each poll is counted.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_leaves_a_whole_tenant_or_none() {
    let world = World::new();
    let rules = SignUpRules { template: template(), ..SignUpRules::default() };
    let sign_up = world.sign_up(rules);
    let (mut whole, mut none) = (0, 0);
    for times in 0..400 {
        let whose = name(&format!("t{times}"));
        let made = polled(times, Box::pin(sign_up.make(whose.clone(), None, None))).await;
        let left = world.left().await;
        let found = left.iter().find(|info| info.name == whose);
        match (made, found) {
            (Some(made), found) => {
                assert_eq!(found, Some(&made.unwrap().0));
                whole += 1;
            }
            // The commit that makes it whole was on its way.
            (None, Some(_)) => whole += 1,
            (None, None) => none += 1,
        }
        if let Some(info) = found {
            let who = world.engine.local_operator().await.unwrap();
            let session = world.engine.session::<Read>(&who, Select::Named(&info.name)).await;
            let session = session.unwrap();
            for (name, collections) in template() {
                let database = session.database(&name).await.unwrap();
                for collection in collections {
                    database.collection(&collection).await.unwrap();
                }
            }
            world.engine.operator(&who).unwrap().erase_tenant(&info.name).await.unwrap();
        }
        if whole >= 3 {
            break;
        }
    }
    assert!(whole >= 3 && none >= 3, "{whole} {none}");
}

/// The key is made before the tenant is whole, and nobody is told it before.
#[tokio::test]
async fn a_key_of_an_arriving_tenant_opens_nothing() {
    let world = World::new();
    let sign_up = world.sign_up(SignUpRules::default());
    let inner = &world.engine.0;
    let who = inner.authority.local_operator();
    let scope = inner.authority.authorize_operator(&who).unwrap();
    let spec = TenantSpec::new(name("acme"));
    let arrival = inner.store.begin_arrival(&scope, &spec).await.unwrap();
    let info = Arc::new(arrival.info().clone());
    let admin = inner.authority.authorize::<Admin>(&who, info.id, "acme").unwrap();
    let session = Session::new(Arc::clone(inner), admin, info);
    let key = sign_up.furnish(&session).await.unwrap();
    let opened = async || {
        let who = world.engine.authenticate(Some(&key)).await?;
        world.engine.session::<Read>(&who, Select::Own).await.map(drop)
    };
    assert_eq!(opened().await.unwrap_err().kind(), ErrorKind::NotFound);
    arrival.give_up().await.unwrap();
    assert_eq!(opened().await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert_eq!(world.left().await, []);
}

#[tokio::test]
async fn nothing_is_kept_of_those_who_come_when_all_is_used_up() {
    let world = World::new();
    let rules =
        SignUpRules { by_address: an_hour(2), in_all: an_hour(6), ..SignUpRules::default() };
    let sign_up = world.sign_up(rules);
    let asks = |address: IpAddr| sign_up.admit(Some(address)).is_ok();
    let of = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
    // Whoever only looks uses nothing, and is not remembered.
    assert!((0..1_000).all(|n| sign_up.look(Some(of(n))).is_ok()));
    assert_eq!(sign_up.limiter.tenants(), 0);
    // One who comes too often takes nothing from the others.
    let admitted = (0..10).filter(|_| asks(of(1))).count();
    assert_eq!(admitted, 2);
    // All of one network of version 6 are one, and so is an address in both spellings.
    let net = |n: u128| IpAddr::V6(Ipv6Addr::from_bits((0x2001 << 112) | n));
    assert!(asks(net(1)) && asks(net(2)) && !asks(net(3)));
    assert!(!asks(IpAddr::V6(Ipv4Addr::from_bits(1).to_ipv6_mapped())));
    assert!(sign_up.admit(None).is_ok() && sign_up.admit(None).is_ok());
    let refused = sign_up.admit(Some(of(2))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!(refused.retry_after().is_some_and(|seconds| (1..=3_600).contains(&seconds)));
    let known = sign_up.limiter.tenants();
    assert!((10..10_000).all(|n| !asks(of(n))));
    assert!((10..10_000).all(|n| sign_up.look(Some(of(n))).is_err()));
    assert_eq!(sign_up.limiter.tenants(), known);
}
