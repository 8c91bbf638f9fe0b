//! What a store is made of: its tenants, and who reads and writes their records where they live.

use super::{Sites, root::RootInFiles};
use crate::{
    CollectionRef, EmbeddedConfig, Health, PostgresConfig, Site, StoreTotals,
    embedded::{Embedded, Files},
    pool::Pool,
    postgres::{Postgres, cluster::Cluster},
    tenancy::{
        Tenancy,
        batch::Offered,
        moving::{Carry as _, Patience},
        tenants::Tenants,
    },
};
use std::sync::{Arc, atomic::AtomicU64};
use tenantry_auth::{Scope, TenantId, Write};
use tenantry_types::{Location, Result, WriteMode, WriteOutcome};

/// See the module. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Handles {
    pub(crate) tenancy: Arc<Tenancy<Sites>>,
    /// If the root is in them.
    pub(crate) files: Option<Embedded>,
    pub(crate) databases: Postgres,
}

/// Who has the records of a tenant.
pub(crate) enum Records<'a> {
    Files(&'a Embedded),
    Databases(&'a Postgres),
}

impl Handles {
    /// Opens or makes an installation in files. Databases are not asked yet.
    pub(crate) fn in_files(config: EmbeddedConfig) -> Result<Self> {
        let tenants = Arc::new(Tenants::new());
        let revocations = Arc::new(AtomicU64::new(0));
        let files = Files::open(&config, &tenants, &revocations)?;
        let cluster = Cluster::beside(
            Arc::new(RootInFiles::of(&files)),
            &config.databases,
            config.pool.clone(),
            &tenants,
            &revocations,
        )?;
        let tenancy = Arc::new(Tenancy::new(
            Sites::new(Some(Arc::clone(&files)), Arc::clone(&cluster)),
            tenants,
            revocations,
            config.clock,
            Arc::clone(&config.entropy),
            (config.default_isolation, config.databases.default_location()),
        ));
        tenancy.moves.limit(config.move_rate);
        let files = Embedded::open(files, &tenancy)?;
        cluster.know(&*files.installation()?, &config.entropy);
        files.spawn();
        let databases = Postgres::beside(cluster, &tenancy);
        Ok(Self { tenancy, files: Some(files), databases })
    }

    /// Opens or makes an installation in a database.
    pub(crate) async fn in_a_database(config: PostgresConfig) -> Result<Self> {
        // Opening is long, and its callers need not be.
        let databases = Box::pin(Postgres::open(config)).await?;
        let tenancy = Arc::clone(&databases.inner.tenancy);
        Ok(Self { tenancy, files: None, databases })
    }

    pub(crate) fn health(&self) -> Health {
        match &self.files {
            Some(files) => files.health(),
            None => self.databases.health(),
        }
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let far = self.databases.totals();
        let totals = match &self.files {
            None => far,
            Some(files) => {
                let totals = files.totals();
                let commits = totals.commits + far.commits;
                StoreTotals { commits, connections: far.connections, ..totals }
            }
        };
        StoreTotals { moves: self.tenancy.moves.totals(self.tenancy.leads()), ..totals }
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.databases.pool()
    }

    pub(crate) fn sites(&self) -> Vec<Site> {
        let home = self.files.as_ref().map(|_| Embedded::site());
        home.into_iter().chain(self.databases.sites()).collect()
    }

    pub(crate) fn out_of_reach(&self) -> Vec<Location> {
        self.databases.out_of_reach()
    }

    pub(crate) fn close(&self) {
        if let Some(files) = &self.files {
            files.close();
        }
        self.databases.close();
    }

    /// What is in memory may be older than what another process has just written.
    pub(crate) fn suspect(&self) {
        self.databases.inner.suspect();
    }

    /// Who has the records of a tenant, as it is known now. Whoever is asked sees whether that is
    /// still so.
    pub(crate) async fn records(&self, tenant: TenantId) -> Result<Records<'_>> {
        let Some(files) = &self.files else { return Ok(Records::Databases(&self.databases)) };
        let tenant = match self.tenancy.tenants.opened(tenant) {
            Some(tenant) => Some(tenant),
            None => self.tenancy.open_tenant(tenant).await?,
        };
        let location = tenant.map_or(Location::Home, |tenant| tenant.placement().location);
        Ok(match location {
            Location::Home => Records::Files(files),
            Location::Named(_) | Location::Own => Records::Databases(&self.databases),
        })
    }

    /// Applies a batch where the tenant lives. Whoever calls this does not go away.
    pub(crate) async fn write(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        mut batch: Offered,
    ) -> Result<WriteOutcome> {
        let patience = Patience::new();
        loop {
            let outcome = match self.records(scope.tenant()).await {
                Err(error) => Err(error),
                Ok(Records::Files(files)) => {
                    Box::pin(files.write(scope, collection, mode, &mut batch)).await
                }
                Ok(Records::Databases(databases)) => {
                    databases.write(scope, collection, mode, &mut batch).await
                }
            };
            // What was taken was handed in, and is not handed in again.
            if batch.is_none() {
                return outcome;
            }
            if let Err(outcome) = patience.wait(outcome).await {
                return outcome;
            }
            self.suspect();
        }
    }
}
