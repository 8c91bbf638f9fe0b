//! Archives that are damaged, foreign or malicious: each is refused, and nothing is written.

use super::{
    fill,
    tar::{Entry, Forger, entries, header, opened, packed, tar, unpacked},
};
use crate::support::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};
use tenantry_engine::{
    archive::{ArchiveConfig, Terms},
    *,
};

/// Name and content of every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// The same, when what is written in the background is written.
async fn settled(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut before = files(folder);
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        let after = files(folder);
        if after == before {
            return after;
        }
        before = after;
    }
}

/// The files that are not as they were.
fn changed(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
) -> BTreeSet<String> {
    let is_other = |(name, bytes): &(&String, &Vec<u8>)| before.get(*name) != Some(*bytes);
    after.iter().filter(is_other).map(|(name, _)| name.clone()).collect()
}

/// A world with a tenant and its archive, and somebody whose archives it takes, whatever is in
/// them.
struct Attack {
    world: World,
    archive: Vec<u8>,
    forger: Forger,
    before: BTreeMap<String, Vec<u8>>,
    /// What the note of a refusal in the operator's log changes.
    noted: BTreeSet<String>,
}

impl Attack {
    async fn new() -> Self {
        let world = World::new().await;
        let key = world.tenant("a").await;
        let c = world.collection(&key, "c").await;
        let record = |n: usize| RecordWrite {
            vector: Some(vec![n as f32, 1.0]),
            document: Some(format!("text {n}")),
            metadata: [("n".to_owned(), Some(Value::Int(1)))].into(),
            ..RecordWrite::new(id(&format!("r{n}")))
        };
        c.write(WriteMode::Upsert, (0..20).map(record).collect()).await.unwrap();
        let archive = world.archive("a").await;
        world.operator().audit(0, 1).await.unwrap();
        let forger = Forger::new().await;
        let first = settled(world.dir.path()).await;
        world.checked(b"", None).await.unwrap_err();
        let before = settled(world.dir.path()).await;
        let noted = changed(&first, &before);
        assert!(!noted.is_empty());
        Self { world, archive, forger, before, noted }
    }

    /// Why an archive is refused.
    async fn refused(&self, archive: &[u8], what: &str) -> String {
        let outcome = self.world.checked(archive, Some(self.forger.public())).await;
        let error = outcome.expect_err(what);
        let kinds = [ErrorKind::Invalid, ErrorKind::TooLarge, ErrorKind::Unsupported];
        assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
        let message = error.public_message().to_owned();
        assert!(message.starts_with("archive"), "{what}: {message}");
        message
    }

    /// Refused with these words, when the forger has signed it.
    async fn forged(&self, entries: Vec<Entry>, counts: [u64; 3], words: &str) {
        let archive = self.forger.archive(entries, counts);
        let message = self.refused(&archive, words).await;
        assert!(message.contains(words), "{words}: {message}");
    }

    /// The entries before the manifest.
    fn content(&self) -> Vec<Entry> {
        let mut all = entries(&self.archive);
        all.truncate(all.len() - 2);
        all
    }

    async fn unchanged(&self) {
        assert_eq!(self.world.tenants().await, [("a".to_owned(), TenantState::Active)]);
        // All that was written is that it was refused, in the operator's log.
        let log = self.world.operator().audit(0, 10_000).await.unwrap();
        let refused = |one: &&AuditEntry| matches!(one.event.outcome, AuditOutcome::Refused(_));
        assert!(log.iter().filter(refused).all(|one| one.event.action == "tenant.import"));
        let done = log.iter().filter(|one| !refused(one)).map(|one| one.event.action.as_str());
        assert!(
            done.clone().all(|action| action != "tenant.import"),
            "{:?}",
            done.collect::<Vec<_>>()
        );
        let after = files(self.world.dir.path());
        assert_eq!(after.keys().collect::<Vec<_>>(), self.before.keys().collect::<Vec<_>>());
        let changed = changed(&self.before, &after);
        assert!(changed.is_subset(&self.noted), "{changed:?}");
        // The file that has the log has more, which is as it was.
        assert!(self.world.archive("a").await == self.archive);
    }
}

const COUNTS: [u64; 3] = [1, 1, 20];

/// splitmix64
fn random(seed: &mut u64) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) >> 1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_cut_archive_is_refused() {
    let attack = Attack::new().await;
    let archive = &attack.archive;
    let plain = opened(archive);
    let mut seed = 1;
    for _ in 0..400 {
        let mut damaged = archive.clone();
        let at = random(&mut seed) % damaged.len();
        damaged[at] ^= 1 << (random(&mut seed) % 8);
        // A few bits of deflate say nothing, such as the length of a code that is not used.
        if unpacked(&damaged).is_ok_and(|bytes| bytes == plain) {
            continue;
        }
        attack.refused(&damaged, &format!("a bit of byte {at}")).await;
    }
    // Nor is there another header of gzip: not one that says a time, or who has made it.
    for (at, byte) in [(3, 1), (4, 1), (7, 0x60), (8, 2), (9, 3)] {
        let mut other = archive.clone();
        other[at] = byte;
        let message = attack.refused(&other, &format!("byte {at} of gzip's header")).await;
        assert!(message.contains("does not begin as every archive"), "{message}");
    }
    for _ in 0..400 {
        let mut damaged = plain.clone();
        let at = random(&mut seed) % damaged.len();
        damaged[at] ^= 1 << (random(&mut seed) % 8);
        attack.refused(&packed(&damaged), &format!("a bit of byte {at} of the tar")).await;
    }
    for _ in 0..200 {
        let end = random(&mut seed) % archive.len();
        attack.refused(&archive[..end], &format!("cut at {end}")).await;
        let end = random(&mut seed) % plain.len();
        attack.refused(&packed(&plain[..end]), &format!("the tar cut at {end}")).await;
    }
    for block in 0..plain.len() / 512 {
        attack.refused(&packed(&plain[..block * 512]), "cut between blocks").await;
    }
    let twice = [&archive[..], archive].concat();
    attack.refused(&twice, "two archives").await;
    attack.refused(&[&archive[..], &[0]].concat(), "a byte behind it").await;
    attack.refused(&packed(&[&plain[..], &[0; 512]].concat()), "a block behind it").await;
    attack.refused(b"", "nothing").await;
    attack.refused(&plain, "no gzip").await;
    attack.unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_an_archive_is_damaged_is_told_in_plain_words() {
    let attack = Attack::new().await;
    let again = "export it again, or fetch it again";
    let whole = attack.content();
    let records = String::from_utf8(whole[4].1.clone()).unwrap();
    let at = 1 + records.lines().position(|line| line.contains("\"id\":\"r7\"")).unwrap();
    for (from, to, words) in [
        ("\"id\":\"r7\"", "\"id\":r7\"", "it is damaged from column"),
        ("{\"id\":\"r7\"", "{\"x\":1,\"id\":\"r7\"", "unknown field `x`"),
    ] {
        let mut some = whole.clone();
        line(&mut some, 4, from, to);
        let message = attack.refused(&attack.forger.archive(some, COUNTS), words).await;
        let place = format!("archive, collections/000001/records-000001.jsonl: line {at}: {words}");
        assert!(message.starts_with(&place) && message.ends_with(again), "{message}");
        assert!(!message.contains("at line 1"), "the parser's words: {message}");
    }
    let plain = tar(&attack.forger.sealed(whole.clone(), COUNTS));
    for (bytes, place) in [
        (0, "cut off at its begin"),
        (512 + 10, "cut off in tenantry.json"),
        (1_024, "cut off behind tenantry.json"),
        (plain.len() - 1_024, "cut off behind signature.json"),
    ] {
        let message = attack.refused(&packed(&plain[..bytes]), place).await;
        assert!(message.contains(place) && message.ends_with(again), "{message}");
    }
    let half = &attack.archive[..attack.archive.len() / 2];
    let message = attack.refused(half, "half of it").await;
    assert!(message.contains("cut off in ") || message.contains("cut off behind "), "{message}");
    attack.unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_not_those_that_must_come_are_refused() {
    let attack = Attack::new().await;
    let good = attack.content();
    // The forger's own is right.
    let right = attack.forger.archive(good.clone(), COUNTS);
    attack.world.checked(&right, Some(attack.forger.public())).await.unwrap();
    for at in 0..good.len() {
        let mut some = good.clone();
        some.remove(at);
        attack.refused(&attack.forger.archive(some, COUNTS), "one is missing").await;
        let mut some = good.clone();
        some.insert(at, good[at].clone());
        attack.refused(&attack.forger.archive(some, COUNTS), "one occurs twice").await;
        let mut some = good.clone();
        some.insert(at, ("../../etc/passwd".into(), b"root".to_vec()));
        attack.forged(some, COUNTS, "another entry comes").await;
        for other in at + 1..good.len() {
            let mut some = good.clone();
            some.swap(at, other);
            attack.refused(&attack.forger.archive(some, COUNTS), "two are swapped").await;
        }
        for name in ["../tenant.json", "/tenant.json", "./tenantry.json", "", "x/../tenant.json"] {
            let mut some = good.clone();
            some[at].0 = name.to_owned();
            attack.forged(some, COUNTS, "another entry comes").await;
        }
    }
    let all = attack.forger.sealed(good.clone(), COUNTS);
    let plain = tar(&all);
    for kind in *b"12345679xgLKSV\0" {
        let mut odd = plain.clone();
        odd[..512].copy_from_slice(&header("tenantry.json", all[0].1.len(), kind, "/etc/passwd"));
        let message = attack.refused(&packed(&odd), "a link or a device").await;
        assert!(message.contains("another entry comes"), "{message}");
    }
    attack.unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_what_was_signed_is_refused() {
    let attack = Attack::new().await;
    let good = attack.content();
    let sealed = attack.forger.sealed(good.clone(), COUNTS);
    let end = sealed.len();
    // Another content under the signed manifest, and another manifest under the signature.
    let mut changed = sealed.clone();
    let text = String::from_utf8(changed[4].1.clone()).unwrap().replace("text 1", "lies 1");
    changed[4].1 = text.into_bytes();
    let message = attack.refused(&packed(&tar(&changed)), "another content").await;
    assert!(message.contains("what its manifest says: collections/000001/records"), "{message}");
    let mut again = attack.forger.sealed(changed[..end - 2].to_vec(), COUNTS);
    again[end - 1] = sealed[end - 1].clone();
    let message = attack.refused(&packed(&tar(&again)), "another manifest").await;
    assert!(message.contains("signature"), "{message}");
    // Signed by this installation, with the public key of somebody trusted, and the reverse.
    let own = entries(&attack.archive);
    let mut mixed = own.clone();
    mixed[end - 1].1 = attack.forger.signature(b"something else");
    attack.refused(&packed(&tar(&mixed)), "a signature of something else").await;
    for counts in [[2, 1, 20], [1, 0, 20], [1, 1, 19]] {
        attack.forged(good.clone(), counts, "what its manifest says").await;
    }
    for (from, to) in [("ed25519", "none"), ("\"signature\":\"", "\"signature\":\"00")] {
        let mut odd = sealed.clone();
        odd[end - 1].1 =
            String::from_utf8(odd[end - 1].1.clone()).unwrap().replace(from, to).into_bytes();
        attack.refused(&packed(&tar(&odd)), "an odd signature").await;
    }
    // Rightly signed, by somebody whom nobody trusts.
    let archive = packed(&tar(&sealed));
    let error = attack.world.checked(&archive, None).await.unwrap_err();
    assert!(error.to_string().contains("another installation"), "{error}");
    attack.unchanged().await;
}

/// One line of an entry, changed.
fn line(entries: &mut [Entry], at: usize, from: &str, to: &str) {
    let text = String::from_utf8(entries[at].1.clone()).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(changed, text, "{from}");
    entries[at].1 = changed.into_bytes();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_tenant_can_have_is_refused_whoever_has_signed_it() {
    let attack = Attack::new().await;
    let good = attack.content();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = format!("\"id\":\"{}\"", "i".repeat(8_193));
    for (at, from, to, words) in [
        (0, "\"version\":1", "\"version\":2", "version that this program does not know"),
        (0, "tenantry-archive", "another-archive", "version that this program"),
        (0, "{", "{\"more\":1,", "unknown field"),
        (1, "\"weight\":100", "\"weight\":0", "weight"),
        (1, "\"weight\":100", "\"weight\":70000", "tenant.json"),
        (1, "\"keys\":1000", "\"keys\":-1", "tenant.json"),
        (1, "\"settings\":{}", "\"settings\":{\"a\":\"\",\"a\":\"\"}", "twice"),
        (2, "default_database", "", "empty"),
        (2, "\n", "\n{\"name\":\"default_database\"}\n", "a database occurs twice"),
        (2, "}\n", "}", "does not end"),
        (2, "default_database", "a\\u0000b", "control character"),
        (3, "\"database\":\"default_database\"", "\"database\":\"x\"", "not in the archive"),
        (3, "\"metric\":\"l2\"", "\"metric\":\"l3\"", "l3"),
        (3, "\"dimension\":2", "\"dimension\":0", "dimension"),
        (3, "\"dimension\":2", "\"dimension\":3", "2 components"),
        (3, "\"dimension\":2", "\"dimension\":null", "says nothing"),
        (3, "\"metadata\":null", "\"metadata\":{\"a\":[1,\"b\"]}", "one kind"),
        (3, "\"vectors\":{}", "\"vectors\":{\"a b\":{}}", "collection.json"),
        (4, "\"id\":\"r0\"", "\"id\":\"\"", "Empty ID"),
        (4, "\"id\":\"r0\"", "\"id\":\"r1\"", "occurs twice"),
        (4, "\"id\":\"r0\"", long.as_str(), "8193 bytes"),
        (4, "\"n\":1", "\"n\":1,\"n\":2", "twice"),
        (4, "\"n\":1", "\"\":1", "1 to"),
        (4, "\"n\":1", "\"n\":1e999", "records"),
        (4, "\"n\":1", "\"n\":[[1]]", "list"),
        (4, "\"n\":1", "\"n\":{\"a\":1}", "records"),
        (4, "\"n\":1", &format!("\"n\":{deep}"), "records"),
        (4, "\"vector\":\"AAAAAAAAgD8=\"", "\"vector\":\"AADAfwAAgD8=\"", "NaN"),
        (4, "\"vector\":\"AAAAAAAAgD8=\"", "\"vector\":\"AAAAAAAAgD8\"", "base64"),
        (4, "\"vector\":\"AAAAAAAAgD8=\"", "\"vector\":\"AAAAAAAAgA==\"", "base64"),
        (4, "\"vector\":\"AAAAAAAAgD8=\"", "\"vectors\":{\"n\":\"AACAPw==\"}", "no vectors named"),
        (4, "}\n", "}\n\n", "records"),
        (4, "{\"id\"", " {\"version\":1,\"id\"", "unknown field"),
    ] {
        let mut some = good.clone();
        line(&mut some, at, from, to);
        attack.forged(some, COUNTS, words).await;
    }
    let mut empty = good.clone();
    empty[4].1.clear();
    attack.forged(empty, [1, 1, 0], "it is empty").await;
    let mut many = good.clone();
    let mut lines = String::new();
    for n in 0..1_001 {
        writeln!(lines, "{{\"id\":\"r{n}\"}}").unwrap();
    }
    many[4].1 = lines.into_bytes();
    attack.forged(many, [1, 1, 1_001], "more than 1000").await;
    let mut twice = good.clone();
    let name = "collections/000002/collection.json".to_owned();
    twice.push((name, good[3].1.clone()));
    attack.forged(twice, [1, 2, 20], "in its database already").await;
    let mut again = good.clone();
    again.push(("collections/000001/records-000002.jsonl".into(), good[4].1.clone()));
    attack.forged(again, [1, 1, 40], "occurs twice").await;
    let mut raw = good.clone();
    raw[4].1[8] = 0xff;
    attack.forged(raw, COUNTS, "records").await;
    attack.unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_is_larger_than_it_looks_is_refused_without_memory_for_it() {
    let attack = Attack::new().await;
    let good = attack.content();
    // Entries that say more than they may be, or more than comes.
    for size in [0o777_7777_7777, 1 << 30, 2 << 20] {
        let mut plain = tar(&attack.forger.sealed(good.clone(), COUNTS));
        plain[..512].copy_from_slice(&header("tenantry.json", size, b'0', ""));
        let message = attack.refused(&packed(&plain), "a size").await;
        assert!(message.contains("are allowed"), "{message}");
    }
    let mut plain = tar(&good[..4]);
    plain.truncate(plain.len() - 1_024);
    plain.extend(header("collections/000001/records-000001.jsonl", 100 << 20, b'0', ""));
    attack.refused(&packed(&plain), "more than comes").await;
    // A gigabyte of nothing, in a megabyte.
    let mut bomb = plain;
    bomb.resize(bomb.len() + (100 << 20), b' ');
    let bomb = packed(&bomb);
    assert!(bomb.len() < 2 << 20);
    attack.refused(&bomb, "a bomb").await;
    attack.unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_than_the_server_is_told() {
    let world = World::new().await;
    fill(&world, "a").await;
    let archive = world.archive("a").await;
    let store = Store::open_embedded(EmbeddedConfig::new(world.dir.path().join("other"))).unwrap();
    let (authority, clock) = (Authority::development(), std::sync::Arc::new(SystemClock));
    let config = EngineConfig { store, authority, clock };
    let folder = world.dir.path().to_owned();
    let bytes_max = archive.len() as u64 + 10;
    let small = ArchiveConfig { folder, bytes_max, ..ArchiveConfig::default() };
    let engine = Engine::start_with(config, small);
    let who = engine.authenticate(None).await.unwrap();
    let importer = engine.importer(&who).unwrap();
    // Small enough as it comes, and too large once it is opened.
    let mut intake = importer.intake(&tenant("x"), None).await.unwrap();
    intake.push(&archive).await.unwrap();
    assert_eq!(intake.check(Terms::default()).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let mut intake = importer.intake(&tenant("x"), None).await.unwrap();
    intake.push(&archive).await.unwrap();
    assert_eq!(intake.push(&[0; 11]).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let refused = importer.intake(&tenant("x"), Some(bytes_max + 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    // Neither is more written.
    let operator = engine.operator(&who).unwrap();
    operator.create_tenant(&TenantSpec::new(tenant("b"))).await.unwrap();
    let name = tenant("b");
    let session = engine.session::<Admin>(&who, Select::Named(&name)).await.unwrap();
    let database = session.database(&DatabaseName::default_database()).await.unwrap();
    let (c, _) = database.create_collection(&spec("c"), false).await.unwrap();
    let text = "x".repeat(archive.len() + 1_000);
    let record = RecordWrite { document: Some(text), ..RecordWrite::new(id("r")) };
    c.write(WriteMode::Upsert, vec![record]).await.unwrap();
    let mut export = session.export().await.unwrap();
    let mut last = None;
    while let Some(part) = export.next().await {
        last = Some(part);
    }
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
}
