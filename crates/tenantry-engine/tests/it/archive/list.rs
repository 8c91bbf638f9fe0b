//! Signed lists of archives, and what the operator's log has of imports.

use super::{new, tar::Forger};
use crate::support::*;
use data_encoding::HEXLOWER;
use tenantry_engine::{
    archive::{Terms, signed_list},
    *,
};

const LINES: &str =
    "{\"name\":\"a\",\"file\":\"1.tar.gz\"}\n{\"name\":\"b\",\"file\":\"2.tar.gz\"}\n";

/// A list of another installation, as it was once written. What was signed is still understood.
const FIXTURE: &[u8] = include_bytes!("tenants.jsonl");
const FIXTURE_SIGNER: &str = include_str!("tenants.signer");

async fn signed(world: &World, lines: &str) -> String {
    let hash = *blake3::hash(lines.as_bytes()).as_bytes();
    let signature = world.importer().sign_list(hash).await.unwrap();
    let row = serde_json::json!({
        "algorithm": "ed25519",
        "public_key": HEXLOWER.encode(&signature.public_key),
        "signature": HEXLOWER.encode(&signature.signature),
    });
    format!("{lines}{row}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_known_by_its_signature_and_every_other_byte_is_refused() {
    let world = World::new().await;
    for lines in ["", LINES] {
        let list = signed(&world, lines).await;
        let (by, found) = signed_list(list.as_bytes()).unwrap();
        assert_eq!((by, found), (world.importer().signer().await.unwrap(), lines.as_bytes()));
        for at in 0..list.len() {
            for bit in [1, 32] {
                let mut changed = list.clone().into_bytes();
                changed[at] ^= bit;
                let refused = signed_list(&changed).expect_err(&format!("byte {at}"));
                assert_eq!(refused.kind(), ErrorKind::Invalid);
            }
            assert!(signed_list(&list.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }
    let list = signed(&world, LINES).await;
    let (first, rest) = list.split_at(list.find('\n').unwrap() + 1);
    for other in [rest.to_owned(), format!("{first}{list}"), format!("{list}\n"), String::new()] {
        assert!(signed_list(other.as_bytes()).is_err(), "{other}");
    }
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let hash = blake3::hash(LINES.as_bytes()).to_hex();
    let told = |one: &AuditEntry| one.event.target == format!("list {hash}");
    assert!(log.iter().any(|one| one.event.action == "archives.sign" && told(one)));
}

/// Neither is a signature of the one kind one of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signed_as_something_else_is_no_list() {
    let forger = Forger::new().await;
    let hash = blake3::hash(LINES.as_bytes()).to_hex().to_string();
    for message in [LINES.to_owned(), hash.clone(), format!("{{\"blake3\":\"{hash}\"}}\n")] {
        let signature = String::from_utf8(forger.signature(message.as_bytes())).unwrap();
        assert!(signed_list(format!("{LINES}{signature}").as_bytes()).is_err(), "{message}");
    }
    let format = "tenantry-archive-list";
    let right = format!("{{\"format\":\"{format}\",\"version\":1,\"blake3\":\"{hash}\"}}\n");
    let signature = String::from_utf8(forger.signature(right.as_bytes())).unwrap();
    let list = format!("{LINES}{signature}");
    assert_eq!(signed_list(list.as_bytes()).unwrap(), (forger.public(), LINES.as_bytes()));
    if let Some(folder) = std::env::var_os("TENANTRY_WRITE_FIXTURE") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("tenants.jsonl"), list).unwrap();
        let signer = HEXLOWER.encode(&forger.public());
        std::fs::write(folder.join("tenants.signer"), format!("{signer}\n")).unwrap();
    }
}

#[test]
fn a_list_of_version_1_is_understood() {
    let (by, lines) = signed_list(FIXTURE).unwrap();
    assert_eq!(HEXLOWER.encode(&by), FIXTURE_SIGNER.trim());
    assert_eq!(lines, LINES.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_log_has_refused_imports_and_who_has_signed_what_was_trusted() {
    let world = World::new().await;
    world.tenant("a").await;
    let archive = world.archive("a").await;
    let hash = blake3::hash(&archive).to_hex();
    let other = World::with(|config| {
        config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([9; 32]));
    })
    .await;
    let signer = world.importer().signer().await.unwrap();
    let named = HEXLOWER.encode(&signer);
    let mut damaged = archive.clone();
    damaged[archive.len() / 2] ^= 1;
    let wrong = blake3::hash(&damaged).to_hex();
    other.checked(&archive, None).await.unwrap_err();
    other.checked(&damaged, Some(signer)).await.unwrap_err();
    let checked = other.checked(&archive, Some(signer)).await.unwrap();
    other.importer().import(checked, &new("b")).await.unwrap();
    other.importer().require_free(&tenant("b")).await.unwrap_err();
    other.importer().copy(&tenant("x"), &new("y")).await.unwrap_err();
    let log = other.operator().audit(0, 1_000).await.unwrap();
    let has = |action: &str, target: &str, outcome: AuditOutcome| {
        let found = log.iter().any(|one| {
            let event = &one.event;
            (event.action.as_str(), event.target.as_str(), event.outcome)
                == (action, target, outcome)
        });
        assert!(found, "{action} {target} {outcome:?}: {log:#?}");
    };
    let refused = AuditOutcome::Refused;
    let foreign = format!("new: archive {hash}, signed by {named}");
    has("tenant.import", &foreign, refused(ErrorKind::Invalid));
    has("tenant.import", &format!("new: archive {wrong}"), refused(ErrorKind::Invalid));
    let taken = format!("b: archive {hash}, signed by {named}");
    has("tenant.import", &taken, AuditOutcome::Done);
    has("tenant.import", "b", refused(ErrorKind::AlreadyExists));
    has("tenant.copy", "x → y", refused(ErrorKind::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_name_cuts_nothing_off_what_the_operators_log_has_of_a_refusal() {
    let (world, other) = (World::new().await, Forger::new().await);
    world.tenant("a").await;
    let own = world.archive("a").await;
    let content = super::tar::entries(&own);
    let content = content[..content.len() - 2].to_vec();
    let archive = other.archive(content, [1, 0, 0]);
    let (hash, named) = (blake3::hash(&archive).to_hex(), HEXLOWER.encode(&other.public()));
    let (long, longer) = ("ä".repeat(256), "ö".repeat(256));
    let mut intake = world.importer().intake(&tenant(&long), None).await.unwrap();
    intake.push(&archive).await.unwrap();
    intake.check(Terms::default()).await.unwrap_err();
    world.importer().copy(&tenant(&long), &new(&longer)).await.unwrap_err();
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let targets: Vec<_> = log.iter().map(|one| one.event.target.as_str()).collect();
    let expected =
        [format!("{long}: archive {hash}, signed by {named}"), format!("{long} → {longer}")];
    for target in expected {
        assert!(targets.contains(&target.as_str()), "{target}: {targets:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_not_the_one_that_is_meant_is_refused() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.tenant(name).await;
    }
    world.acting_in("b").await.create_database(&database("more")).await.unwrap();
    let (a, b) = (world.archive("a").await, world.archive("b").await);
    let take = async |archive: &[u8], meant: &[u8]| {
        let mut intake = world.importer().intake(&tenant("c"), None).await.unwrap();
        intake.push(archive).await.unwrap();
        let hash = Some(*blake3::hash(meant).as_bytes());
        intake.check(Terms { trusted: None, hash }).await
    };
    take(&a, &a).await.unwrap();
    let refused = take(&b, &a).await.unwrap_err();
    assert!(refused.to_string().contains("another one than is meant"), "{refused}");
}

/// What is asked for may be begun long before the body has come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_signs_nothing_and_sends_no_more() {
    let world = World::new().await;
    let (row, key) = world.operator().create_key(true, "second", None).await.unwrap();
    let importer = world.engine.importer(&world.who(&key).await).unwrap();
    let mut intake = importer.intake(&tenant("new"), None).await.unwrap();
    intake.push(&[0; 100]).await.unwrap();
    importer.sign_list([1; 32]).await.unwrap();
    world.operator().revoke_key(row.id).await.unwrap();
    for refused in [
        importer.sign_list([2; 32]).await.map(drop),
        importer.signer().await.map(drop),
        intake.push(&vec![0; 1 << 20]).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }
    let log = world.operator().audit(0, 1_000).await.unwrap();
    assert_eq!(log.iter().filter(|one| one.event.action == "archives.sign").count(), 1);
}
