use super::*;
use crate::{EngineConfig, Operator};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenantry_auth::{
    Authority,
    token::{ClaimPath, ClaimSpec, IssuerSpec, Issuers, KeysOf, TenantBy},
};
use tenantry_store::{EmbeddedConfig, Store, SystemClock};
use tenantry_types::{Clock as _, TenantName, TenantSpec};
use zeroize::Zeroizing;

struct World {
    engine: Engine,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(per_minute: u32) -> Self {
        Self::with(per_minute, Authority::new())
    }

    fn with(per_minute: u32, authority: Authority) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path().join("data"))).unwrap();
        let clock = Arc::new(SystemClock);
        let engine = Engine::start(EngineConfig { store, authority, clock });
        if let Some(rate) = NonZeroU32::new(per_minute) {
            engine.limit_logins(rate);
        }
        Self { engine, _folder: folder }
    }

    async fn operator(&self) -> Operator {
        self.engine.operator(&self.engine.local_operator().await.unwrap()).unwrap()
    }

    async fn asks(&self, key: &str, client: &str) -> Option<ErrorKind> {
        let client = client.parse().unwrap();
        let who = self.engine.authenticate_from(Some(key), Some(client)).await;
        who.err().map(|error| error.kind())
    }

    /// Sends keys that nobody has made until one is turned away; how many were looked at.
    async fn guesses(&self, client: &str) -> u32 {
        for n in 0..1_000 {
            match self.asks(&format!("tnt_wrong_{n}"), client).await {
                Some(ErrorKind::Unauthenticated) => {}
                Some(ErrorKind::LimitExceeded) => return n,
                other => panic!("{other:?}"),
            }
        }
        1_000
    }
}

const WRONG: Option<ErrorKind> = Some(ErrorKind::Unauthenticated);
const TURNED_AWAY: Option<ErrorKind> = Some(ErrorKind::LimitExceeded);

#[tokio::test]
async fn after_some_refusals_an_address_is_turned_away_and_no_other() {
    let world = World::new(1);
    assert_eq!(world.guesses("192.0.2.1").await, AT_ONCE);
    for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
        assert_eq!(world.asks("tnt_x_y", same).await, TURNED_AWAY, "{same}");
    }
    assert_eq!(world.asks("tnt_x_y", "192.0.2.2").await, WRONG);
    // What one customer has of version 6.
    assert_eq!(world.guesses("2001:db8:0:1::1").await, AT_ONCE);
    assert_eq!(world.asks("tnt_x_y", "2001:db8:0:1:ffff::9").await, TURNED_AWAY);
    assert_eq!(world.asks("tnt_x_y", "2001:db8:0:2::1").await, WRONG);
    assert_eq!(world.engine.totals().logins_turned_away, 5);
    // A token that cannot be one, and who sends nothing.
    assert_eq!(world.asks("a.b.c", "192.0.2.1").await, TURNED_AWAY);
    let client = Some("192.0.2.1".parse().unwrap());
    let nothing = world.engine.authenticate_from(None, client).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn the_machine_itself_is_not_bounded_and_nobody_is_unless_that_is_said() {
    let world = World::new(1);
    for here in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(world.guesses(here).await, 1_000, "{here}");
    }
    assert_eq!(World::new(0).guesses("192.0.2.1").await, 1_000);
}

#[tokio::test]
async fn a_key_that_was_good_lately_goes_on_until_it_is_revoked() {
    let world = World::new(1);
    let operator = world.operator().await;
    let (known, key) = operator.create_key(true, "known", None).await.unwrap();
    let (_, new) = operator.create_key(true, "new", None).await.unwrap();
    assert_eq!(world.asks(&key, "198.51.100.1").await, None);
    assert_eq!(world.guesses("192.0.2.1").await, AT_ONCE);
    // Behind the same address, wherever it was good.
    assert_eq!(world.asks(&key, "192.0.2.1").await, None);
    assert_eq!(world.asks(&new, "192.0.2.1").await, TURNED_AWAY);
    assert_eq!(world.asks(&new, "192.0.2.2").await, None);
    assert_eq!(world.asks(&new, "192.0.2.1").await, None);
    // It is one key, whatever is around it.
    assert_eq!(world.asks(&format!("  {key} \t"), "192.0.2.1").await, None);
    assert_eq!(world.engine.0.logins.get().unwrap().good.lock().young.len(), 2);
    operator.revoke_key(known.id).await.unwrap();
    // Once more it is looked at, as ever; then it is one like any other.
    assert_eq!(world.asks(&key, "192.0.2.1").await, WRONG);
    assert_eq!(world.asks(&key, "192.0.2.1").await, TURNED_AWAY);
}

#[tokio::test]
async fn whoever_comes_with_many_at_once_waits_for_all_of_them() {
    let logins = Logins::new(NonZeroU32::new(60).unwrap());
    let client = "192.0.2.1".parse().unwrap();
    let begin = |n: u32| logins.begin(&n.to_string(), client);
    let refused = |outcome: Result<Login<'_>>| outcome.err().unwrap().retry_after().unwrap();
    let all: Vec<_> = (0..UNDER_WAY_MAX).map(|n| begin(n).unwrap()).collect();
    // However many come meanwhile.
    assert_eq!(refused(begin(1_000)), 1);
    // They are gone before it was known what they are.
    drop(all);
    let seconds = u32::try_from(refused(begin(1_000))).unwrap();
    let owed = UNDER_WAY_MAX - AT_ONCE + 1;
    assert!((owed - 1..=owed).contains(&seconds), "{seconds}");
}

#[test]
fn no_more_is_known_than_there_is_room_for() {
    let logins = Logins::new(NonZeroU32::MIN);
    // One tenant's tokens push out nobody's.
    logins.good.lock().put(None, (0, 1), 0);
    for n in 0..(3 * GOOD_MAX as u64) {
        logins.good.lock().put(Some(TenantId::new(7)), (n, n), 0);
    }
    let good = logins.good.lock();
    assert_eq!(good.young.len(), GOOD_OF_ONE_MAX + 1);
    drop(good);
    for n in 0..(3 * GOOD_MAX as u64) {
        logins.good.lock().put(Some(TenantId::new(n)), (n, 2), 0);
    }
    let good = logins.good.lock();
    assert!(good.young.len() + good.old.len() <= GOOD_MAX);
    drop(good);
    for n in 1..=(3 * ADDRESSES_MAX as u64) {
        logins.charge(TenantId::new(n));
    }
    assert!(logins.limiter.tenants() <= ADDRESSES_MAX, "{}", logins.limiter.tenants());
}

#[test]
fn what_was_good_is_forgotten_when_it_was_not_used_for_a_while() {
    let logins = Logins::new(NonZeroU32::MIN);
    let put = |hash, at| logins.good.lock().put(None, hash, at);
    put((1, 1), 0);
    put((2, 2), 0);
    put((1, 1), GOOD_FOR + 1);
    assert!(logins.was_good((1, 1)) && logins.was_good((2, 2)));
    put((1, 1), 2 * GOOD_FOR + 2);
    assert!(logins.was_good((1, 1)) && !logins.was_good((2, 2)));
}

#[tokio::test]
async fn an_operators_token_of_one_tenant_takes_that_ones_room_and_not_the_operators() {
    let (secret, path) = ([7_u8; 32], |text| ClaimPath::parse(text).unwrap());
    let issuer = IssuerSpec {
        name: "login".into(),
        iss: "issuer".into(),
        audience: "here".into(),
        keys: KeysOf::Secret(Zeroizing::new(secret.to_vec())),
        claims: ClaimSpec {
            tenant: TenantBy::Id(path("org")),
            roles: path("roles"),
            roles_split: false,
            levels: BTreeMap::new(),
            operator_roles: ["staff".to_owned()].into(),
            subject: path("sub"),
            filter: None,
            needs_member: false,
        },
        skew: Duration::ZERO,
        lifetime_max: None,
    };
    let issuers = Issuers::new(vec![issuer]).unwrap();
    let world = World::with(1, Authority::new().with_issuers(issuers));
    let spec = TenantSpec::new(TenantName::parse("a").unwrap());
    let id = world.operator().await.create_tenant(&spec).await.unwrap().id;
    let now = SystemClock.now().0 / 1_000;
    let claims = format!(
        r#"{{"iss":"issuer","aud":"here","sub":"alice","iat":{now},"exp":{},"org":{id},"roles":"staff"}}"#,
        now + 600
    );
    let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
    let signature = ring::hmac::sign(&key, message.as_bytes());
    let token = format!("{message}.{}", encode(signature.as_ref()));
    assert_eq!(world.asks(&token, "192.0.2.1").await, None);
    let good = world.engine.0.logins.get().unwrap().good.lock();
    assert_eq!((good.of.get(&Some(id)), good.of.get(&None)), (Some(&1), None));
}
