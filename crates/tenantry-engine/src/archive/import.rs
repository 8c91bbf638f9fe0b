//! Making tenants from archives and from other tenants.

use super::{
    Counts, Payer, blocking,
    fill::Filling,
    permit,
    read::{Item, Reader, Signed},
    walk::walk,
    wire::TenantRow,
};
use crate::{Engine, Select, Session, engine::Inner, validate};
use std::{
    fs::File,
    io::{BufReader, Seek as _, Write as _},
    path::Path,
    pin::Pin,
    sync::{Arc, Weak},
};
use tenantry_auth::{Admin, OperatorScope, Principal, TenantId};
use tenantry_store::{Arrival, Arrived, PublicKey, TenantInfo};
use tenantry_types::{
    Error, ErrorKind, Isolation, Limits, Location, Resource, Result, TenantName, TenantSpec,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Bytes of a body that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;
/// Items that are read before they are written.
const ITEMS: usize = 2;

/// The tenant that is to be made.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its name.
    pub name: TenantName,
    /// How it is to live; `None` leaves it to the installation's default.
    pub isolation: Option<Isolation>,
    /// Where; likewise.
    pub location: Option<Location>,
}

/// What an archive says of itself, when all of it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// BLAKE3 of the whole file.
    pub hash: [u8; 32],
    /// Who has signed it.
    pub signed_by: PublicKey,
    /// What is in it.
    pub counts: Counts,
    /// Whether it was exported by an operator, so that the tenant's weight and settings are in it.
    pub is_operators: bool,
}

/// Makes tenants from what was exported, and copies of tenants.
#[derive(Debug)]
pub struct Importer {
    inner: Arc<Inner>,
    who: Principal,
    scope: OperatorScope,
}

impl Engine {
    /// The handle that makes tenants from archives, for an operator who may open tenants.
    pub fn importer(&self, who: &Principal) -> Result<Importer> {
        let inner = Arc::clone(&self.0);
        // Refusals are noted by it.
        self.operator(who)?;
        let scope = inner.authority.authorize_operator(who)?;
        if scope.may_act_as() {
            return Ok(Importer { inner, who: who.clone(), scope });
        }
        let error = Error::denied("this operator key may not open tenants, nor import or copy one");
        let log = TenantId::INSTALLATION;
        inner.refuse(log, scope.actor(), "tenant.import", "installation", &error);
        Err(error)
    }
}

/// An archive that is coming.
#[derive(Debug)]
pub struct Intake {
    inner: Arc<Inner>,
    file: Option<File>,
    hash: blake3::Hasher,
    buffer: Vec<u8>,
    bytes: u64,
    permit: OwnedSemaphorePermit,
}

/// An archive in which everything is right.
#[derive(Debug)]
pub struct Checked {
    file: File,
    row: TenantRow,
    summary: Summary,
    _permit: OwnedSemaphorePermit,
}

impl Checked {
    /// What is in it.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Intake {
    /// Takes the next bytes.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        let most = self.inner.archives.config.bytes_max;
        if self.bytes > most {
            let message = format!("archive: at most {most} bytes are allowed");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITTEN_AT_ONCE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let lost = || Error::internal("an archive goes on that could not be kept");
        let mut file = self.file.take().ok_or_else(lost)?;
        let (buffer, mut hash) = (std::mem::take(&mut self.buffer), self.hash.clone());
        let written = blocking(move || {
            hash.update(&buffer);
            file.write_all(&buffer).map_err(|why| {
                let message = format!("an archive cannot be kept: {why}");
                Error::new(ErrorKind::Unavailable, message)
            })?;
            Ok((file, hash))
        });
        let (file, hash) = written.await?;
        (self.file, self.hash) = (Some(file), hash);
        Ok(())
    }

    /// Checks all of it. It must be signed by this installation, or by whoever has the other key.
    pub async fn check(mut self, trusted: Option<PublicKey>) -> Result<Checked> {
        self.flush().await?;
        let lost = || Error::internal("an archive is checked that could not be kept");
        let mut file = self.file.take().ok_or_else(lost)?;
        let own = self.inner.archive_key().await?.public()?;
        let most = self.inner.archives.config.bytes_max;
        let hash = *self.hash.finalize().as_bytes();
        let payer = Payer {
            pool: self.inner.store.pool().clone(),
            tenant: TenantId::INSTALLATION,
            weight: 100,
        };
        // Whoever goes away does not leave a thread at work.
        let waits = Arc::new(());
        let is_waited_for = Arc::downgrade(&waits);
        let checked = blocking(move || {
            let found = check_file(&mut file, most, Some(&payer), &is_waited_for)?;
            Ok((file, found))
        });
        let (file, (row, signed)) = checked.await?;
        drop(waits);
        if signed.by != own && Some(signed.by) != trusted {
            let by = data_encoding::HEXLOWER.encode(&signed.by);
            return Err(Error::invalid(format!(
                "archive: it is signed by another installation; whoever trusts that one says so \
                 with its public key, which is {by}"
            )));
        }
        let is_operators = row.weight.is_some();
        let summary = Summary { hash, signed_by: signed.by, counts: signed.counts, is_operators };
        Ok(Checked { file, row, summary, _permit: self.permit })
    }
}

/// Reads all of an archive, and keeps nothing of it but what the tenant is.
fn check_file(
    file: &mut File,
    bytes_max: u64,
    payer: Option<&Payer>,
    is_waited_for: &Weak<()>,
) -> Result<(TenantRow, Signed)> {
    let unreadable = |why| Error::internal("read an archive").with_source(why);
    file.rewind().map_err(unreadable)?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, &mut *file), bytes_max);
    let mut turn = payer.and_then(Payer::turn);
    let mut row = None;
    while let Some(item) = reader.next()? {
        if is_waited_for.strong_count() == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "nobody waits for it any more"));
        }
        if let Item::Tenant(tenant) = item {
            row = Some(tenant);
        }
        if let Some(turn) = &mut turn {
            turn.pause();
        }
    }
    let signed = reader.signed()?.clone();
    let row = row.ok_or_else(|| Error::invalid("archive: it has no tenant"))?;
    Ok((row, signed))
}

/// Checks an archive in a file, and says what is in it, whoever has signed it. Needs no
/// installation.
pub fn inspect(path: &Path, bytes_max: u64) -> Result<Summary> {
    let failed =
        |why| Error::invalid(format!("{} cannot be read", path.display())).with_source(why);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = blake3::Hasher::new();
    hash.update_reader(&file).map_err(failed)?;
    let waits = Arc::new(());
    let (row, signed) = check_file(&mut file, bytes_max, None, &Arc::downgrade(&waits))?;
    Ok(Summary {
        hash: *hash.finalize().as_bytes(),
        signed_by: signed.by,
        counts: signed.counts,
        is_operators: row.weight.is_some(),
    })
}

impl Importer {
    /// Fails if the name of a new tenant is taken: before an archive comes that may be large.
    pub async fn require_free(&self, name: &TenantName) -> Result<()> {
        match self.inner.store.find_tenant(name).await? {
            None => Ok(()),
            Some(_) => Err(Error::already_exists(Resource::Tenant, name.as_str())),
        }
    }

    /// Begins to take an archive.
    pub async fn intake(&self) -> Result<Intake> {
        let permit = permit(&self.inner.archives.read).await?;
        let file = Some(self.inner.archives.file().await?);
        let (inner, hash) = (Arc::clone(&self.inner), blake3::Hasher::new());
        Ok(Intake { inner, file, hash, buffer: Vec::new(), bytes: 0, permit })
    }

    /// Makes a tenant of an archive. Whoever drops this before it is done leaves nothing behind.
    pub async fn import(&self, archive: Checked, to: &NewTenant) -> Result<TenantInfo> {
        let Checked { file, row, summary, _permit } = archive;
        let mut spec = new(to);
        spec.weight = row.weight.unwrap_or(spec.weight);
        spec.settings = row.settings.clone().unwrap_or_default();
        let hash = data_encoding::HEXLOWER.encode(&summary.hash);
        let target = format!("{}: archive {hash}", to.name);
        let arrived = Arrived { action: "tenant.import", told: format!("archive {hash}"), target };
        let most = self.inner.archives.config.bytes_max;
        let (arrival, mut filling) = self.begin(&spec).await?;
        let filled = boxed(async { fill(file, most, &mut filling).await }).await;
        self.end(arrival, filled, row.limits(), arrived).await
    }

    /// Makes a tenant that has what another one has at this moment. Whoever drops this before it
    /// is done leaves nothing behind.
    pub async fn copy(&self, name: &TenantName, to: &NewTenant) -> Result<TenantInfo> {
        let engine = Engine(Arc::clone(&self.inner));
        self.require_free(&to.name).await?;
        let source: Session<Admin> = engine.session(&self.who, Select::Named(name)).await?;
        let _reading = permit(&self.inner.archives.read).await?;
        let _writing = permit(&self.inner.archives.written).await?;
        let snapshot = source.snapshot("tenant.copy").await?;
        let info = snapshot.info().clone();
        let mut spec = new(to);
        (spec.weight, spec.settings) = (info.weight, info.settings);
        // Where data may be is no matter of the server's default.
        if spec.location.is_none() && info.location == Location::Own {
            let message = "the tenant is in a database of its own: say where the copy is to be";
            return Err(Error::invalid(message));
        }
        spec.location = spec.location.or(Some(info.location));
        spec.isolation = spec.isolation.or(Some(info.isolation));
        // No tenant learns from its log what another one is called.
        let arrived = Arrived {
            action: "tenant.copy",
            told: to.name.to_string(),
            target: format!("{name} → {}", to.name),
        };
        let (arrival, mut filling) = self.begin(&spec).await?;
        let filled = boxed(async { walk(snapshot, &mut filling).await }).await;
        self.end(arrival, filled, info.limits, arrived).await
    }

    /// Makes a tenant that is to be filled.
    async fn begin(&self, spec: &TenantSpec) -> Result<(Arrival, Filling)> {
        validate::tenant_spec(spec)?;
        let arrival = self.inner.store.begin_arrival(&self.scope, spec).await?;
        let info = Arc::new(arrival.info().clone());
        let scope = self.inner.authority.authorize(&self.who, info.id, info.name.as_str())?;
        Ok((arrival, Filling::new(Session::new(Arc::clone(&self.inner), scope, info))))
    }

    /// Makes a tenant whole that was filled; or leaves nothing.
    async fn end(
        &self,
        arrival: Arrival,
        filled: Result<()>,
        limits: Limits,
        arrived: Arrived,
    ) -> Result<TenantInfo> {
        let Err(why) = filled else { return arrival.end(&self.scope, limits, arrived).await };
        let tenant = arrival.info().id;
        if let Err(error) = arrival.give_up().await {
            tracing::warn!(?error, %tenant, "delete a tenant that could not be filled");
        }
        Err(why)
    }
}

/// Filling is large, and its callers need not be.
fn boxed<'a>(
    filling: impl Future<Output = Result<()>> + Send + 'a,
) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
    Box::pin(filling)
}

/// Writes all that an archive has, which was checked.
async fn fill(file: File, bytes_max: u64, filling: &mut Filling) -> Result<()> {
    let (sender, mut items) = mpsc::channel(ITEMS);
    let reading = tokio::task::spawn_blocking(move || read_into(file, bytes_max, &sender));
    while let Some(item) = items.recv().await {
        filling.put(item).await?;
    }
    let aborted = |why| Err(Error::internal("reading was aborted").with_source(why));
    reading.await.unwrap_or_else(aborted)
}

/// A tenant without limits: it may have more than its own allow by now.
fn new(to: &NewTenant) -> TenantSpec {
    TenantSpec {
        limits: Limits {
            databases: u32::MAX,
            collections: u32::MAX,
            records_per_collection: u64::MAX,
            keys: 0,
        },
        default_database: false,
        isolation: to.isolation,
        location: to.location,
        ..TenantSpec::new(to.name.clone())
    }
}

/// Reads a checked archive once more, for whoever writes.
fn read_into(mut file: File, bytes_max: u64, to: &mpsc::Sender<Item>) -> Result<()> {
    let unreadable = |why| Error::internal("read an archive").with_source(why);
    file.rewind().map_err(unreadable)?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, file), bytes_max);
    while let Some(item) = reader.next()? {
        if to.blocking_send(item).is_err() {
            return Err(Error::new(ErrorKind::Unavailable, "nobody writes it any more"));
        }
    }
    Ok(())
}
