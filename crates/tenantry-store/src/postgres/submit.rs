//! Commits.

use super::{cluster::Cluster, statement::Step, view::PgView};
use crate::tenancy::WriteSet;
use tenantry_types::{Error, Result};

impl Cluster {
    /// Commits a set and, before its rows, these steps, which run with the right to the data of
    /// the first of the tenants that the view was made for. Runs to its end, whoever waits.
    pub(crate) fn submit_with(
        &self,
        view: PgView,
        set: WriteSet,
        steps: Vec<Step>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        async move {
            let _ = (view, set, steps);
            Err(Error::internal("not there yet"))
        }
    }
}
