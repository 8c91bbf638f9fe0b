use super::{
    flush::{close_minute, flush},
    *,
};
use crate::Select;
use std::num::NonZeroU32;
use tenantry_auth::{Admin, Restriction, Role};
use tenantry_store::NewKey;
use tenantry_types::{
    Allowance, ErrorKind, Limits, Meter, PlanName, Rate, Rates, TenantName, TenantPlan, TenantSpec,
    Term,
};

const DENIED: (AuditOutcome, AuditReason) =
    (AuditOutcome::Refused(ErrorKind::Denied), AuditReason::Role);
const LIMITED: (AuditOutcome, AuditReason) =
    (AuditOutcome::Refused(ErrorKind::LimitExceeded), AuditReason::Limit(Term::Keys));
const A: Author<'static> = Author::work("key:a");

fn take(denials: &Denials, log: TenantId) -> Vec<AuditNote> {
    let notes = denials.take(log).into_iter().map(|(_, note)| note).collect();
    denials.arrived(log);
    notes
}

fn note(denials: &Denials, tenant: u64, actor: &str, target: &str) {
    denials.note((TenantId::new(tenant), Author::work(actor)), "session", target, DENIED);
}

fn total(notes: &[AuditNote]) -> u64 {
    notes.iter().map(|note| note.event.count).sum()
}

#[test]
fn a_flood_is_summed() {
    let denials = Denials::default();
    for _ in 0..1_000 {
        note(&denials, 1, "key:a", "x");
    }
    let events = take(&denials, TenantId::new(1));
    assert_eq!((events.len(), total(&events)), (1, 1_000));
    assert!(take(&denials, TenantId::new(1)).is_empty());
    assert_eq!(denials.events.denied.load(Ordering::Relaxed), 0);
}

#[test]
fn a_new_id_each_time_is_no_new_entry_and_the_first_stays() {
    let (denials, tenant) = (Denials::default(), TenantId::new(1));
    let ids: Vec<_> = (0..100).map(|n| RequestId::parse(&format!("r-{n}")).unwrap()).collect();
    let refuse = |id: &RequestId, reason| {
        let log = (tenant, Author::new("key:a", Some(id)));
        denials.note(log, "session", "x", (DENIED.0, reason));
    };
    for id in &ids {
        refuse(id, AuditReason::Role);
    }
    refuse(&ids[7], AuditReason::Filter);
    let notes = take(&denials, tenant);
    let said: Vec<_> = notes.iter().map(|n| (n.event.count, n.reason, &n.request)).collect();
    let [first, other] = [0, 7].map(|at| Some(ids[at].clone()));
    let expected = [(100, AuditReason::Role, &first), (1, AuditReason::Filter, &other)];
    assert_eq!(said, expected);
    // What could not be written was before what came meanwhile.
    refuse(&ids[9], AuditReason::Role);
    for note in notes {
        denials.put_back((tenant, None), note);
    }
    let notes = take(&denials, tenant);
    assert_eq!((notes[0].event.count, &notes[0].request), (101, &first));
}

#[test]
fn many_targets_are_one_beyond_the_bound_and_none_is_lost() {
    let denials = Denials::default();
    for n in 0..10_000 {
        note(&denials, 1, "key:a", &n.to_string());
    }
    let events = take(&denials, TenantId::new(1));
    assert_eq!((events.len(), total(&events)), (ACTOR_EVENTS_MAX + 1, 10_000));
}

#[test]
fn one_tenants_flood_crowds_out_nobody() {
    let denials = Denials::default();
    for n in 0..100_000 {
        note(&denials, 1, &format!("key:{}", n % 5_000), &n.to_string());
    }
    note(&denials, 2, "key:b", "x");
    let quiet = take(&denials, TenantId::new(2));
    assert_eq!((quiet[0].event.actor.as_str(), quiet[0].event.target.as_str()), ("key:b", "x"));
    let loud = take(&denials, TenantId::new(1));
    assert!(loud.len() <= LOG_EVENTS_MAX + 1, "{}", loud.len());
    assert_eq!(total(&loud), 100_000);
}

#[test]
fn one_tenant_has_its_part_of_the_log_that_all_share() {
    let denials = Denials::default();
    let attempt = |tenant: u64, actor: &str, target: &str| {
        let log = (TenantId::INSTALLATION, Author::work(actor));
        denials.note_of(TenantId::new(tenant), log, CROSS_TENANT, (target, DENIED));
    };
    for n in 0..100_000 {
        attempt(1, &format!("key:{}", n % 5_000), &n.to_string());
    }
    attempt(2, "key:b", "x");
    let notes = take(&denials, TenantId::INSTALLATION);
    assert_eq!((notes.len(), total(&notes)), (TENANT_EVENTS_MAX + 2, 100_001));
    let of = |actor: &str| notes.iter().find(|note| note.event.actor == actor).unwrap();
    assert_eq!(of("key:b").event.target, "x");
    assert_eq!(of(MANY).event.target, "(many) of tenant 1");
    attempt(1, "key:a", "y");
    assert_eq!(take(&denials, TenantId::INSTALLATION)[0].event.actor, "key:a");
}

#[test]
fn one_tenant_has_its_part_also_while_nothing_can_be_written() {
    let denials = Denials::default();
    let log = TenantId::INSTALLATION;
    for round in 0..40 {
        for n in 0..100 {
            let (actor, target) = (format!("key:{round}-{n}"), n.to_string());
            let by = (log, Author::work(&actor));
            denials.note_of(TenantId::new(1), by, CROSS_TENANT, (&target, DENIED));
        }
        let notes = denials.take(log);
        // While they are on their way, one that is among them and others come.
        for n in 0..100 {
            let (actor, target) = (format!("key:0-{n}"), format!("{}", n + round));
            let by = (log, Author::work(&actor));
            denials.note_of(TenantId::new(1), by, CROSS_TENANT, (&target, DENIED));
        }
        denials.arrived(log);
        for (whose, note) in notes {
            denials.put_back((log, whose), note);
        }
    }
    let by = (log, Author::work("key:b"));
    denials.note_of(TenantId::new(2), by, CROSS_TENANT, ("x", DENIED));
    let notes = take(&denials, log);
    assert_eq!((notes.len(), total(&notes)), (TENANT_EVENTS_MAX + 2, 8_001));
    assert!(notes.iter().any(|note| note.event.actor == "key:b"));
}

#[test]
fn a_flood_hides_nothing_that_was_done() {
    let denials = Denials::default();
    for n in 0..100_000 {
        note(&denials, 1, &format!("key:{}", n % 5_000), &n.to_string());
    }
    denials.note((TenantId::new(1), A), "tenant.create", "acme", DONE);
    let notes = take(&denials, TenantId::new(1));
    let done = notes.iter().find(|note| note.event.outcome == AuditOutcome::Done).unwrap();
    assert_eq!((done.event.actor.as_str(), done.event.target.as_str()), ("key:a", "acme"));
}

#[test]
fn whoever_is_beyond_a_limit_hides_nobody_who_had_no_right() {
    let denials = Denials::default();
    let tenant = TenantId::new(1);
    for n in 0..100_000 {
        let actor = format!("key:{}", n % 5_000);
        denials.note((tenant, Author::work(&actor)), "key.create", &n.to_string(), LIMITED);
    }
    let denied = LOG_EVENTS_MAX / ACTOR_EVENTS_MAX;
    for n in 0..LOG_EVENTS_MAX {
        note(&denials, 1, &format!("key:{}", n % denied), &n.to_string());
    }
    let (limits, rights): (Vec<_>, Vec<_>) =
        take(&denials, tenant).into_iter().partition(|note| note.reason == LIMITED.1);
    assert_eq!((limits.len(), total(&limits)), (LOG_EVENTS_MAX + 1, 100_000));
    let is_told = |note: &AuditNote| note.event.actor != MANY && note.event.target != MANY;
    assert!(rights.len() == LOG_EVENTS_MAX && rights.iter().all(is_told), "{}", rights.len());
}

#[test]
fn limits_that_cannot_be_written_take_no_room_of_missing_rights_in_all_logs() {
    let denials = Denials::default();
    denials.events.limited.store(EVENTS_MAX, Ordering::Relaxed);
    denials.note((TenantId::new(1), A), "request", "", LIMITED);
    note(&denials, 2, "key:b", "x");
    assert_eq!((take(&denials, TenantId::new(1)).len(), denials.dropped()), (0, 1));
    assert_eq!(total(&take(&denials, TenantId::new(2))), 1);
}

#[test]
fn tenants_do_not_wait_for_each_other() {
    let denials = Denials::default();
    let busy = denials.shard(TenantId::new(1)).lock();
    assert!(denials.shard(TenantId::new(2)).try_lock().is_some());
    drop(busy);
}

#[test]
fn targets_are_cut_at_a_character() {
    let denials = Denials::default();
    note(&denials, 1, "key:a", &"🦀".repeat(100));
    assert_eq!(take(&denials, TenantId::new(1))[0].event.target, "🦀".repeat(50));
    note(&denials, 1, "key:a", &format!("x{}", "🦀".repeat(100)));
    assert_eq!(take(&denials, TenantId::new(1))[0].event.target.len(), 197);
}

fn engine(folder: &std::path::Path) -> crate::Engine {
    let store = tenantry_store::Store::open_embedded(tenantry_store::EmbeddedConfig::new(folder));
    crate::Engine::start(crate::EngineConfig {
        store: store.unwrap(),
        authority: tenantry_auth::Authority::new(),
        clock: Arc::new(tenantry_store::SystemClock),
    })
}

#[tokio::test]
async fn reads_are_one_entry_for_each_minute_principal_and_collection() {
    let folder = tempfile::tempdir().unwrap();
    let inner = engine(folder.path()).0;
    let tenant = TenantId::new(1);
    for (actor, collection) in [("key:a", "c"), ("key:a", "c"), ("key:a", "d"), ("key:b", "c")] {
        inner.reads.note((tenant, Author::work(actor)), READ, collection, DONE);
    }
    assert!(inner.denials.logs().is_empty());
    close_minute(&inner);
    let said: Vec<_> = take(&inner.denials, tenant).into_iter().map(|note| note.event).collect();
    let said: Vec<_> =
        said.iter().map(|e| (e.actor.as_str(), e.target.as_str(), e.count)).collect();
    assert_eq!(said, [("key:a", "c", 2), ("key:a", "d", 1), ("key:b", "c", 1)]);
    assert!(inner.reads.logs().is_empty());
    close_minute(&inner);
    assert!(take(&inner.denials, tenant).is_empty());
}

#[tokio::test]
async fn refusals_by_limits_are_one_entry_for_each_minute_principal_and_limit() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path());
    let operator = engine.local_operator().await.unwrap();
    let (name, plan) = (TenantName::parse("a").unwrap(), PlanName::parse("p").unwrap());
    let allowance = Allowance {
        limits: Limits { keys: 1, ..Limits::default() },
        rates: Rates { hour: NonZeroU32::new(1).map(Rate::new), ..Rates::default() },
        ..Allowance::default()
    };
    let manages = engine.operator(&operator).unwrap();
    manages.put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    let spec = TenantSpec { plan: Some(plan), ..TenantSpec::new(name.clone()) };
    manages.create_tenant(&spec).await.unwrap();
    let session = engine.session::<Admin>(&operator, Select::Named(&name)).await.unwrap();
    let make = async || {
        let (restriction, label) = (Restriction::default(), "k".to_owned());
        let new = NewKey { role: Role::Admin, restriction, label, expires_at: None };
        session.create_key(new).await
    };
    let (_, key) = make().await.unwrap();
    for _ in 0..2 {
        assert_eq!(make().await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
    let who = engine.authenticate(Some(&key)).await.unwrap();
    for n in 0..4 {
        assert_eq!(engine.admit(&who).await.unwrap().check().is_ok(), n == 0);
    }
    close_minute(&engine.0);
    let log = session.audit(0, 1_000).await.unwrap();
    let refused = log.iter().filter(|entry| entry.event.outcome != AuditOutcome::Done);
    let said: Vec<_> = refused
        .map(|entry| {
            let (event, reason) = (&entry.event, entry.bound.as_ref().unwrap().reason);
            assert_eq!(event.outcome.word(), "limit_exceeded");
            let (actor, action) = (event.actor.as_str(), event.action.as_str());
            (actor, action, event.target.as_str(), reason.word(), event.count)
        })
        .collect();
    let key = who.to_string();
    let expected = [
        (key.as_str(), "request", "", "requests_per_hour", 3),
        ("operator:local", "key.create", "k", "keys", 2),
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn what_was_written_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let inner = engine(folder.path()).0;
    inner.denials.note((TenantId::INSTALLATION, A), "session", "x", DENIED);
    // A tenant that is gone has no log to write to.
    inner.denials.note((TenantId::new(99), A), "session", "x", DENIED);
    flush(&inner).await.unwrap();
    assert!(inner.denials.logs().is_empty());
}

#[tokio::test]
async fn what_cannot_be_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let inner = engine(folder.path()).0;
    for _ in 0..3 {
        inner.denials.note((TenantId::INSTALLATION, A), "session", "x", DENIED);
    }
    inner.store.close();
    assert!(flush(&inner).await.is_err());
    assert!(flush(&inner).await.is_err());
    let kept = take(&inner.denials, TenantId::INSTALLATION);
    assert_eq!((kept.len(), total(&kept)), (1, 3));
}

#[test]
fn reports_are_summed_up_by_meter() {
    let (denials, tenant) = (Denials::default(), TenantId::new(7));
    for (meter, amount) in [(Meter::Messages, 1), (Meter::Tokens, 40), (Meter::Messages, 2)] {
        let by = (tenant, Author::work("operator"));
        denials.reported(by, "usage.report", &Amounts::of(meter, amount));
    }
    // One that was counted before says nothing else.
    denials.reported((tenant, Author::work("operator")), "usage.report", &Amounts::default());
    let notes = take(&denials, tenant);
    let told: Vec<_> =
        notes.iter().map(|note| (note.event.target.as_str(), note.event.count)).collect();
    assert_eq!(told, [("tokens 40, messages 3", 4)]);
    // What could not be written stays what it was.
    denials.put_back((tenant, None), notes[0].clone());
    denials.reported((tenant, Author::work("o")), "usage.report", &Amounts::default());
    assert!(take(&denials, tenant).iter().any(|note| note.event == notes[0].event));
}
