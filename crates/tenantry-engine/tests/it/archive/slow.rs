//! Whoever takes or sends an archive too slowly, and a disk without room.

use super::{exported, fill};
use crate::support::*;
use std::{future::pending, path::Path, time::Duration};
use tenantry_engine::{
    archive::{ArchiveConfig, Terms},
    *,
};

const WAIT_MAX: Duration = Duration::from_millis(400);

/// Files of a folder that this process holds and that have no name.
fn held(folder: &Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed().as_secs() < 20, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A world whose archives are in a folder of their own, and that waits for nobody for long.
async fn hasty(folder: &Path) -> World {
    let folder = folder.to_owned();
    let config = ArchiveConfig { folder, wait_max: WAIT_MAX, ..ArchiveConfig::default() };
    World::with_archives(config).await
}

/// Records that are more than is on its way at once, and not to be compressed.
pub(super) async fn much(world: &World, key: &str) {
    let c = world.collection(key, "c").await;
    let mut seed = 1_u32;
    let mut random = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32
    };
    for batch in 0..4 {
        let record = |n| RecordWrite {
            vector: Some((0..512).map(|_| random()).collect()),
            ..RecordWrite::new(id(&format!("r{n}")))
        };
        let records = (batch * 250..(batch + 1) * 250).map(record).collect();
        c.write(WriteMode::Upsert, records).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_holds_no_file_and_its_archive_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let world = hasty(folder.path()).await;
    let key = world.tenant("a").await;
    much(&world, &key).await;
    let session = world.session::<Admin>(&key).await;
    let mut stopped = session.export().await.unwrap();
    assert!(stopped.next().await.unwrap().is_ok());
    // Nobody drops it, and nobody reads it.
    until("its file is still held", async || held(folder.path()) == 0).await;
    // And the tenant's only place is free.
    until("nobody else can export", async || session.export().await.is_ok()).await;
    let mut last = None;
    while let Some(part) = stopped.next().await {
        last = Some(part);
    }
    // What is on its way still comes, and then that it was cut, never a clean end.
    let error = last.unwrap().unwrap_err();
    assert!(error.to_string().contains("too slowly"), "{error}");
    assert!(stopped.next().await.is_none());
}

/// On a clock that moves only while nothing is done, so that a busy machine is nobody's fault.
#[tokio::test]
async fn a_reader_that_keeps_the_pace_gets_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let world = hasty(folder.path()).await;
    let key = world.tenant("a").await;
    much(&world, &key).await;
    let session = world.session::<Admin>(&key).await;
    tokio::time::pause();
    let whole = exported(&session).await;
    // The first one's place is free a moment after its last byte.
    let begun = std::time::Instant::now();
    let mut export = loop {
        match session.export().await {
            Ok(export) => break export,
            Err(busy) => assert!(begun.elapsed().as_secs() < 20, "{busy}"),
        }
        tokio::task::yield_now().await;
    };
    let (mut bytes, begun) = (Vec::new(), tokio::time::Instant::now());
    while let Some(part) = export.next().await {
        bytes.extend(part.unwrap());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(bytes == whole);
    // Longer than anybody is waited for at once.
    assert!(begun.elapsed() > 4 * WAIT_MAX, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_stops_holds_no_file_and_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let world = hasty(folder.path()).await;
    world.tenant("a").await;
    let archive = world.archive("a").await;
    for _ in 0..3 {
        let importer = world.importer();
        let mut intake = importer.intake(&tenant("b"), None).await.unwrap();
        intake.push(&archive).await.unwrap();
        assert!(held(folder.path()) > 0);
        let refused = intake.wait(pending::<()>()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        drop(intake);
        until("its file is still held", async || held(folder.path()) == 0).await;
    }
    world.import(&archive, "b").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_on_the_disk_nothing_is_exported_and_nothing_stored() {
    let world = World::new().await;
    fill(&world, "a").await;
    let archive = world.archive("a").await;
    let begun = world.importer().intake(&tenant("b"), Some(1 << 60)).await.unwrap_err();
    // Larger than any, whatever the disk has.
    assert_eq!(begun.kind(), ErrorKind::TooLarge);
    // A disk on which as much is to be left as none has.
    let full = ArchiveConfig { free_min: 1 << 60, ..ArchiveConfig::default() };
    let world = World::with_archives(full).await;
    let key = world.tenant("a").await;
    let session = world.session::<Admin>(&key).await;
    let exporting = session.export().await.unwrap_err();
    let importing = world.importer().intake(&tenant("b"), None).await.unwrap_err();
    for refused in [exporting, importing] {
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("too little room for archives"), "{refused}");
    }
    // Nothing was read, so nothing is said to have been.
    let log = session.audit(0, 1_000).await.unwrap();
    assert!(log.iter().all(|one| one.event.action != "tenant.export"));
    // One that is as large as it says is refused before it comes.
    let huge = ArchiveConfig { bytes_max: u64::MAX, ..ArchiveConfig::default() };
    let world = World::with_archives(huge).await;
    let refused = world.importer().intake(&tenant("b"), Some(1 << 60)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let intake = world.importer().intake(&tenant("b"), Some(archive.len() as u64)).await;
    let mut intake = intake.unwrap();
    intake.push(&archive).await.unwrap();
    assert!(intake.check(Terms::default()).await.is_err(), "it is another installation's");
}
