//! Tokens of issuers: what their holders get, and when it ends.

use crate::support::*;
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenantry_engine::{
    token::{ClaimPath, ClaimSpec, FilterClaim, IssuerSpec, Issuers, KeysFrom, KeysOf, TenantBy},
    *,
};
use zeroize::Zeroizing;

const SECRET: [u8; 32] = [7; 32];
/// When every test begins, in seconds.
const NOW: u64 = START / 1_000;

fn path(text: &str) -> ClaimPath {
    ClaimPath::parse(text).unwrap()
}

pub(crate) fn spec(tenant: TenantBy) -> IssuerSpec {
    let levels = [("reader", Role::Read), ("owner", Role::Admin)];
    // The filter of these tests is `{"of": …}`, or a pattern that nobody can read.
    let parse = |value: &serde_json::Value| match value.as_str() {
        Some("(") => Ok(Filter::Text(TextTest::Regex("(".into()))),
        Some(of) => Ok(is("of", text(of))),
        None => Err("no text".to_owned()),
    };
    IssuerSpec {
        name: "login".into(),
        iss: "issuer".into(),
        audience: "here".into(),
        keys: KeysOf::Secret(Zeroizing::new(SECRET.to_vec())),
        claims: ClaimSpec {
            tenant,
            roles: path("roles"),
            roles_split: false,
            levels: levels.map(|(word, role)| (word.to_owned(), role)).into(),
            operator_roles: BTreeSet::new(),
            subject: path("sub"),
            filter: Some(FilterClaim { path: path("only"), is_required: false, parse }),
            needs_member: false,
        },
        skew: Duration::ZERO,
        lifetime_max: None,
    }
}

async fn world(tenant: TenantBy) -> World {
    World::trusting(Issuers::new(vec![spec(tenant)]).unwrap()).await
}

async fn by_name() -> World {
    world(TenantBy::Name(path("org"))).await
}

/// A token with these claims beside the usual ones.
pub(crate) fn token(claims: &str) -> String {
    let (header, until) = (r#"{"alg":"HS256"}"#, NOW + 600);
    let claims = format!(
        r#"{{"iss":"issuer","aud":"here","sub":"alice","iat":{NOW},"exp":{until},{claims}}}"#
    );
    let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes()).as_ref()))
}

const OWNER: &str = r#""org":"acme","roles":["owner"]"#;

async fn refusal(world: &World, token: &str) -> (ErrorKind, String) {
    shown(world.engine.authenticate(Some(token)).await)
}

#[tokio::test]
async fn whoever_has_a_token_is_a_user_of_one_tenant_and_no_operator() {
    let world = by_name().await;
    world.tenant("acme").await;
    let who = world.who(&token(OWNER)).await;
    assert_eq!(
        (who.to_string(), who.key(), who.role()),
        ("user:login/alice".into(), None, Role::Admin)
    );
    assert!(who.is_user() && !who.is_operator() && !who.may_act_as() && !who.is_development());
    assert_eq!(kind(world.engine.operator(&who)), ErrorKind::Denied);
    let session = world.engine.session::<Admin>(&who, Select::Own).await.unwrap();
    assert_eq!(session.tenant().name, tenant("acme"));
    let reader = token(r#""org":"acme","roles":"reader""#);
    assert_eq!(kind(world.try_session::<Write>(&reader).await), ErrorKind::Denied);
}

#[tokio::test]
async fn a_token_ends_by_the_clock_also_within_an_open_session() {
    let world = by_name().await;
    world.tenant("acme").await;
    let notes = world.collection(&token(OWNER), "notes").await;
    world.clock.set(START + 599_999);
    notes.get(&GetRequest::default()).await.unwrap();
    world.clock.set(START + 600_000);
    let (what, why) = shown(notes.get(&GetRequest::default()).await);
    assert_eq!((what, &*why), (ErrorKind::Unauthenticated, "the token is not valid any more"));
    let told = "the token is not valid: it has expired".to_owned();
    assert_eq!(refusal(&world, &token(OWNER)).await, (ErrorKind::Unauthenticated, told));
}

#[tokio::test]
async fn a_session_of_a_token_ends_with_its_tenant() {
    let world = by_name().await;
    world.tenant("acme").await;
    let notes = world.collection(&token(OWNER), "notes").await;
    world.operator().suspend_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(kind(notes.get(&GetRequest::default()).await), ErrorKind::Suspended);
    let write = notes.write(WriteMode::Upsert, vec![write("a").vector(&[1.0])]).await;
    assert_eq!(kind(write), ErrorKind::Suspended);
    assert_eq!(kind(world.try_session::<Read>(&token(OWNER)).await), ErrorKind::Suspended);
    world.operator().resume_tenant(&tenant("acme")).await.unwrap();
    notes.get(&GetRequest::default()).await.unwrap();
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    notes.get(&GetRequest::default()).await.unwrap_err();
}

#[tokio::test]
async fn a_missing_tenant_an_erased_one_and_a_forged_token_get_one_answer() {
    let world = by_name().await;
    world.tenant("acme").await;
    let good = token(OWNER);
    let mut forged = good.clone();
    let last = if forged.pop() == Some('A') { "E" } else { "A" };
    forged.push_str(last);
    let expected = (ErrorKind::Unauthenticated, "the token is not valid".to_owned());
    assert_eq!(refusal(&world, &forged).await, expected);
    assert_eq!(refusal(&world, &token(r#""org":"none","roles":"owner""#)).await, expected);
    // The time of issue and of making are the same so far.
    world.who(&good).await;
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    assert_eq!(refusal(&world, &good).await, expected);
    world.clock.set(START + 1);
    world.tenant("acme").await;
    assert_eq!(refusal(&world, &good).await, expected);
}

#[tokio::test]
async fn a_tenant_by_its_id_keeps_its_tokens_when_it_is_renamed() {
    let world = world(TenantBy::Id(path("org"))).await;
    world.tenant("acme").await;
    let id = world.operator().tenant(&tenant("acme")).await.unwrap().id;
    let token = token(&format!(r#""org":"{id}","roles":"owner""#));
    let change = TenantChange { name: Some(tenant("globex")), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    world.tenant("acme").await;
    let session = world.session::<Read>(&token).await;
    assert_eq!((session.tenant().id, &session.tenant().name), (id, &tenant("globex")));
}

#[tokio::test]
async fn a_token_by_name_means_whoever_had_the_name_when_it_was_issued() {
    let world = by_name().await;
    world.tenant("acme").await;
    world.tenant("globex").await;
    let token = token(OWNER);
    world.who(&token).await;
    let to = |name| TenantChange { name: Some(tenant(name)), ..TenantChange::default() };
    let expected = (ErrorKind::Unauthenticated, "the token is not valid".to_owned());
    // It does not follow its tenant to another name, nor its name to another tenant.
    world.clock.set(START + 1);
    world.operator().change_tenant(&tenant("acme"), &to("initech")).await.unwrap();
    assert_eq!(refusal(&world, &token).await, expected);
    world.operator().change_tenant(&tenant("globex"), &to("acme")).await.unwrap();
    assert_eq!(refusal(&world, &token).await, expected);
    // A change of anything else leaves the time, and the same name is no new one.
    let named_at = world.operator().tenant(&tenant("acme")).await.unwrap().named_at;
    assert_eq!(named_at, Timestamp(START + 1));
    world.clock.set(START + 2);
    let change = TenantChange { weight: Some(7), ..to("acme") };
    let changed = world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    assert_eq!(changed.named_at, named_at);
    // Whoever gets its name back has it since then only.
    world.operator().change_tenant(&tenant("acme"), &to("globex")).await.unwrap();
    world.operator().change_tenant(&tenant("initech"), &to("acme")).await.unwrap();
    assert_eq!(refusal(&world, &token).await, expected);
}

#[tokio::test]
async fn another_tenant_is_refused_and_noted_as_for_a_key() {
    let world = by_name().await;
    let key = world.tenant("acme").await;
    world.tenant("globex").await;
    let before = world.engine.totals().cross_tenant_attempts;
    for name in ["globex", "none"] {
        let name = tenant(name);
        let mut said = Vec::new();
        for credential in [&key, &token(OWNER)] {
            let who = world.who(credential).await;
            said.push(shown(world.engine.session::<Read>(&who, Select::Named(&name)).await));
        }
        assert!(said[0].0 == ErrorKind::NotFound && said[0] == said[1], "{said:?}");
    }
    assert_eq!(world.engine.totals().cross_tenant_attempts, before + 4);
}

#[tokio::test]
async fn a_token_is_bound_to_its_filter() {
    let world = by_name().await;
    let key = world.tenant("acme").await;
    let notes = world.collection(&key, "notes").await;
    let of = |id: &str, of: &str| write(id).vector(&[1.0]).set("of", text(of));
    notes.write(WriteMode::Upsert, vec![of("a", "alice"), of("b", "bob")]).await.unwrap();
    let only = token(r#""org":"acme","roles":"owner","only":"alice""#);
    let database = world.database::<Read>(&only).await;
    let mine = database.collection(&collection("notes")).await.unwrap();
    assert_eq!(all_ids(&mine).await, ["a"]);
    for bad in ["5", "null", "\"(\""] {
        let token = token(&format!(r#""org":"acme","roles":"owner","only":{bad}"#));
        let (what, why) = refusal(&world, &token).await;
        assert_eq!(what, ErrorKind::Unauthenticated);
        assert_eq!(why, "the token is not valid: its filter is none");
    }
}

/// Answers with this set of keys, and counts.
#[derive(Debug)]
struct Fetched(String, AtomicUsize);

impl KeyFetch for Fetched {
    fn fetch(&self, _: &str) -> std::result::Result<Vec<u8>, String> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.clone().into_bytes())
    }
}

#[tokio::test]
async fn strangers_make_a_server_fetch_keys_every_half_minute_at_most() {
    let from = KeysFrom::Url("https://login.example/keys".into());
    let keys = KeysOf::Fetched(from, Duration::from_secs(600));
    let spec = IssuerSpec { keys, ..spec(TenantBy::Id(path("org"))) };
    let world = World::trusting(Issuers::new(vec![spec]).unwrap()).await;
    let x = BASE64URL_NOPAD.encode(&[1; 32]);
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{x}"}}]}}"#);
    let fetched = Arc::new(Fetched(set, AtomicUsize::new(0)));
    // What the store does takes time of its own; from here on it does nothing.
    tokio::time::pause();
    world.engine.fetch_keys(Arc::clone(&fetched) as Arc<dyn KeyFetch>);
    let header = BASE64URL_NOPAD.encode(br#"{"alg":"EdDSA","kid":"b"}"#);
    let unknown = format!("{header}.{}", token(OWNER).split_once('.').unwrap().1);
    // A minute of strangers, and half an hour without.
    let mut count = Vec::new();
    for (seconds, strange) in [(59, true), (1_800, false)] {
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if strange {
                refusal(&world, &unknown).await;
            }
        }
        count.push(fetched.1.load(Ordering::SeqCst));
    }
    assert_eq!(count[0], 2, "{count:?}");
    assert!((4..=6).contains(&count[1]), "{count:?}");
}
