//! Which part of a list is asked for.

use tenantry_engine::{Error, Result, TenantName};

/// How many items a page may have: `usual` if it is not said, and `most` at most.
pub(super) fn limited(limit: Option<usize>, usual: usize, most: usize) -> Result<usize> {
    let limit = limit.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::invalid(format!("limit: {limit} is not between 1 and {most}")))
}

/// The tenant after which a page begins; none if it is the first one.
pub(super) fn tenant_before(name: Option<&str>) -> Result<Option<TenantName>> {
    name.map(TenantName::parse).transpose()
}
