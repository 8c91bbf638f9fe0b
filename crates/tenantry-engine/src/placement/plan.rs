//! What a policy says of tenants as they are now: for whoever follows it, and for whoever only asks.

use super::{Case, Policy, SETTING, Stay, Verdict};
use crate::{denials::DONE, engine::Inner};
use std::time::{Duration, Instant};
use tenantry_auth::OperatorScope;
use tenantry_store::TenantInfo;
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result, TenantName, TenantState};

/// After a tenant was measured others have the disk for so many times as long as it took.
const BREATHS: u32 = 3;
const BREATH_MAX: Duration = Duration::from_millis(100);
/// A page of a plan ends after so long, however few tenants are in it.
const PAGE_TIME: Duration = Duration::from_secs(5);

/// Plans that are made at once: each measures tenants.
pub(crate) const AT_ONCE: usize = 2;
/// How long somebody waits for one of these to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What would be done with a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The tenant.
    pub name: TenantName,
    /// How and where it lives.
    pub from: (Isolation, Location),
    /// What the policy says of it.
    pub verdict: Verdict,
}

/// A part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Tenants in the order of their names.
    pub tenants: Vec<Planned>,
    /// After which name the next part begins; none if this is the last one.
    pub next: Option<TenantName>,
}

/// What a look at a tenant has found.
pub(super) struct Looked {
    pub(super) verdict: Verdict,
    /// Whether its size was read, which its log may have to say.
    pub(super) is_measured: bool,
}

impl From<Stay> for Looked {
    fn from(why: Stay) -> Self {
        Self { verdict: Verdict::Stay(why), is_measured: false }
    }
}

/// Others have the disk for a while.
pub(super) async fn breathe(took: Duration) {
    tokio::time::sleep((BREATHS * took).min(BREATH_MAX)).await;
}

fn is_fixed(info: &TenantInfo) -> bool {
    let (key, value) = SETTING;
    info.settings.get(key).is_some_and(|found| found == value)
}

/// What a policy says of a tenant now, of which this was known a moment ago. Nothing is changed.
pub(super) async fn look(
    policy: &Policy,
    inner: &Inner,
    scope: &OperatorScope,
    info: &TenantInfo,
) -> Result<Looked> {
    let (now, sites) = (inner.clock.now(), inner.store.sites(scope));
    let mut case = Case {
        isolation: info.isolation,
        location: info.location,
        is_fixed: is_fixed(info),
        is_arriving: info.state == TenantState::Provisioning || info.erase_at.is_some(),
        is_moving: false,
        since: info.created_at,
    };
    // Most are not even asked for their moves.
    if let Some(why) = policy.stays(&case, &sites, now) {
        return Ok(why.into());
    }
    if let Some(last) = inner.store.move_status(scope, &info.name).await? {
        case.is_moving = !last.phase.is_over();
        case.since = last.ended_at.map_or(case.since, |ended| case.since.max(ended));
    }
    if let Some(why) = policy.stays(&case, &sites, now) {
        return Ok(why.into());
    }
    let begun = Instant::now();
    let (now_is, sizes) = inner.store.tenant_sizes(scope, &info.name).await?;
    breathe(begun.elapsed()).await;
    // It may have been set since the page of tenants was read.
    case.is_fixed = is_fixed(&now_is);
    let is_same = now_is.id == info.id
        && (now_is.isolation, now_is.location) == (info.isolation, info.location);
    let verdict = if is_same {
        let plan = match &now_is.plan {
            Some(plan) => Some(inner.store.plan(scope, plan).await?),
            None => None,
        };
        policy.decide(&case, (sizes.as_ref(), plan.as_ref()), &sites, now)
    } else {
        Verdict::Stay(Stay::Changed)
    };
    // Of another one of this name nothing is told.
    Ok(Looked { verdict, is_measured: is_same && sizes.is_some() })
}

/// What a policy would do with the tenants after this one. Each that is measured finds that in its
/// log, as when its operator asks for advice.
pub(crate) async fn plan(
    policy: &Policy,
    inner: &Inner,
    scope: &OperatorScope,
    (after, limit): (Option<&TenantName>, usize),
) -> Result<Plan> {
    let Ok(Ok(_one)) = tokio::time::timeout(PATIENCE, inner.planning.acquire()).await else {
        let message = "too many plans are being made at this moment; try again";
        return Err(Error::new(ErrorKind::Unavailable, message));
    };
    let begun = Instant::now();
    let mut found = inner.tenants(scope, after, limit.saturating_add(1)).await?;
    let mut is_last = found.len() <= limit;
    found.truncate(limit);
    let mut plan = Plan { tenants: Vec::new(), next: None };
    let (mut last, many) = (None, found.len());
    for (at, info) in found.into_iter().enumerate() {
        let looked = match look(policy, inner, scope, &info).await {
            Ok(looked) => Some(looked),
            Err(error) => match error.kind() {
                // It was deleted or renamed.
                ErrorKind::NotFound => None,
                ErrorKind::Unauthenticated | ErrorKind::Denied => return Err(error),
                // One database that is down is no reason to tell nothing of all others.
                _ => Some(Stay::Unseen(error.public_message().to_owned()).into()),
            },
        };
        if let Some(Looked { verdict, is_measured }) = looked {
            if is_measured {
                let log = (info.id, scope.author());
                inner.denials.note(log, "operator.measure", "sizes", DONE);
            }
            let from = (info.isolation, info.location);
            plan.tenants.push(Planned { name: info.name.clone(), from, verdict });
        }
        last = Some(info.name);
        if begun.elapsed() > PAGE_TIME && at + 1 < many {
            is_last = false;
            break;
        }
    }
    plan.next = last.filter(|_| !is_last);
    Ok(plan)
}
