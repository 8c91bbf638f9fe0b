//! The rules, each with where it comes from. Thresholds are here and nowhere else; what depends on
//! a backend is asked of it ([`Site`]).

use super::{Budget, Case, Compliance, Facts, Numbers, Place, Reason};
use tenantry_store::{BackendKind, Site};
use tenantry_types::{Isolation, Location};

/// Guides that this project started from; `docs/guides/isolation.md` says more of them.
const TREE: &str = "a guide to multi-tenant GenAI products: decision tree of isolation";
const FACTORS: &str = "a guide to isolation in vector databases: choosing a strategy";
const SOVEREIGNTY: &str = "a guide to multi-tenant chat systems: isolation strategies";
const GUIDE: &str = "Tenantry's guide to isolation";
/// Where an operator has said where tenants may live.
const PLAN: &str = "the tenant's plan";

/// Why a tenant is in a database of its own.
const CARRIES: &str = "it is to be in a database that it carries, and nobody else is there";

/// Below so many tenants full isolation of each is affordable.
const FEW_TENANTS: u64 = 50;
/// From so many on only what lies among others is.
const MANY_TENANTS: u64 = 10_000;
/// Parts of the machine's work from which on neighbours feel it, in per cent.
const LOAD_OWN_TABLES: u8 = 10;
const LOAD_OWN_DATABASE: u8 = 50;
/// Records from which on vacuum, compaction and backups are felt by neighbours. Judgement, not
/// measured.
const RECORDS_OWN_TABLES: u64 = 1_000_000;
const RECORDS_OWN_DATABASE: u64 = 10_000_000;

/// Whether a rung gives way to the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// A demand, or what its searches need: it stands.
    Must,
    /// It makes things better and costs something.
    Cost,
}

/// A condition, and the isolation that it asks for.
pub(super) struct Rung {
    pub(super) rule: &'static str,
    pub(super) source: &'static str,
    pub(super) to: Isolation,
    pub(super) weight: Weight,
    pub(super) met: fn(&Facts<'_>) -> bool,
    /// Why it applies.
    pub(super) says: fn(&Facts<'_>) -> String,
    /// What would have to be so; none if it cannot be.
    pub(super) otherwise: fn(&Facts<'_>) -> Option<String>,
    /// How it is when it does not apply.
    pub(super) without: &'static str,
}

/// All of them; those of one rule from its highest.
pub(super) const RUNGS: &[Rung] = &[
    Rung {
        rule: "own-database",
        source: SOVEREIGNTY,
        to: Isolation::Database,
        weight: Weight::Must,
        met: |f| f.needs.own_database,
        says: |_| CARRIES.into(),
        // Another location, not another isolation.
        otherwise: |_| None,
        without: "it need not carry a database",
    },
    Rung {
        rule: "regulated",
        source: TREE,
        to: Isolation::Database,
        weight: Weight::Must,
        met: |f| f.needs.compliance == Compliance::Regulated,
        says: |_| "a regulator looks at it: separate databases are easiest to audit".into(),
        otherwise: |_| Some("a regulator looks at it (compliance: regulated)".into()),
        without: "no regulator looks at it",
    },
    Rung {
        rule: "contract",
        source: FACTORS,
        to: Isolation::Schema,
        weight: Weight::Must,
        met: |f| f.needs.compliance == Compliance::Contract,
        says: |_| "a contract says that its data lie apart".into(),
        otherwise: |f| {
            let is_more = f.needs.compliance == Compliance::Regulated;
            (!is_more).then(|| "a contract says so (compliance: contract)".into())
        },
        without: "no contract says so",
    },
    Rung {
        rule: "enterprise",
        source: TREE,
        to: Isolation::Schema,
        weight: Weight::Must,
        met: |f| f.needs.enterprise,
        says: |_| {
            "it is an enterprise customer: strong isolation, removed and sized by itself".into()
        },
        otherwise: |_| Some("it becomes an enterprise customer".into()),
        without: "it is a usual customer",
    },
    load(
        Isolation::Database,
        |f| f.needs.load_percent >= LOAD_OWN_DATABASE,
        |_| Some(format!("it makes {LOAD_OWN_DATABASE} % or more of the machine's work")),
    ),
    load(
        Isolation::Schema,
        |f| f.needs.load_percent >= LOAD_OWN_TABLES,
        |_| Some(format!("it makes {LOAD_OWN_TABLES} % or more of the machine's work")),
    ),
    size(
        Isolation::Database,
        |f| f.numbers.records >= RECORDS_OWN_DATABASE,
        |_| Some(format!("it has {} records or more", grouped(RECORDS_OWN_DATABASE))),
    ),
    size(
        Isolation::Schema,
        |f| f.numbers.records >= RECORDS_OWN_TABLES,
        |_| Some(format!("it has {} records or more", grouped(RECORDS_OWN_TABLES))),
    ),
    Rung {
        rule: "graph",
        source: GUIDE,
        to: Isolation::Schema,
        weight: Weight::Must,
        met: |f| f.graphs_from().is_some_and(|records| f.graphable >= records),
        says: |f| {
            format!(
                "a collection has {} records: among others on PostgreSQL every search of it reads \
                 all of them, apart it has a graph from {} on",
                grouped(f.graphable),
                grouped(f.graphs_from().unwrap_or_default())
            )
        },
        otherwise: |f| {
            let records = grouped(f.graphs_from()?);
            Some(format!("a collection has {records} records or more, with vectors"))
        },
        without: "its collections are smaller",
    },
    affordable(
        Isolation::Database,
        |f| is_affordable(f, FEW_TENANTS),
        |f| is_unaffordable(f, FEW_TENANTS),
    ),
    affordable(
        Isolation::Schema,
        |f| is_affordable(f, MANY_TENANTS),
        |f| is_unaffordable(f, MANY_TENANTS),
    ),
];

const fn load(
    to: Isolation,
    met: fn(&Facts<'_>) -> bool,
    otherwise: fn(&Facts<'_>) -> Option<String>,
) -> Rung {
    Rung {
        rule: "load",
        source: FACTORS,
        to,
        weight: Weight::Cost,
        met,
        says: |f| {
            let part = f.needs.load_percent;
            format!("it makes {part} % of the machine's work: its neighbours feel it less apart")
        },
        otherwise,
        without: "its load is smaller",
    }
}

const fn size(
    to: Isolation,
    met: fn(&Facts<'_>) -> bool,
    otherwise: fn(&Facts<'_>) -> Option<String>,
) -> Rung {
    Rung {
        rule: "size",
        source: GUIDE,
        to,
        weight: Weight::Cost,
        met,
        says: |f| {
            let records = grouped(f.numbers.records);
            format!("it has {records} records: upkeep of shared tables is felt by its neighbours")
        },
        otherwise,
        without: "it has fewer records",
    }
}

const fn affordable(
    to: Isolation,
    met: fn(&Facts<'_>) -> bool,
    otherwise: fn(&Facts<'_>) -> Option<String>,
) -> Rung {
    Rung {
        rule: "affordable",
        source: FACTORS,
        to,
        // A low budget, which bounds what costs only, is what it would not be.
        weight: Weight::Must,
        met,
        says: |f| {
            let tenants = grouped(f.numbers.tenants);
            format!("the budget is high and tenants are few ({tenants}): isolation is affordable")
        },
        otherwise,
        without: "the budget is a usual one",
    }
}

fn is_affordable(facts: &Facts<'_>, below: u64) -> bool {
    facts.needs.budget == Budget::High && facts.numbers.tenants < below
}

/// How it would be affordable, if only the budget is missing.
fn is_unaffordable(facts: &Facts<'_>, below: u64) -> Option<String> {
    let is_missing = facts.needs.budget != Budget::High && facts.numbers.tenants < below;
    is_missing.then(|| "its place may cost more (budget: high)".into())
}

/// The most that a low budget leaves to what costs only.
pub(super) fn ceiling(facts: &Facts<'_>) -> Isolation {
    let is_many = facts.numbers.tenants >= MANY_TENANTS;
    if is_many { Isolation::Shared } else { Isolation::Schema }
}

/// The rule that has bounded something.
pub(super) fn tight(facts: &Facts<'_>) -> Reason {
    let (most, tenants) = (ceiling(facts).word(), grouped(facts.numbers.tenants));
    Reason {
        rule: "budget",
        source: FACTORS,
        isolation: None,
        says: format!(
            "the budget is low with {tenants} tenants: load and size ask for no more than {most}"
        ),
    }
}

/// What would lift that bound.
pub(super) const UNBOUNDED: &str = "its place may cost what its needs cost (budget: usual)";

/// What an isolation takes.
pub(super) const COSTS: &[(BackendKind, Isolation, &str)] = &[
    (BackendKind::Embedded, Isolation::Shared, "idle it costs a row"),
    (
        BackendKind::Embedded,
        Isolation::Schema,
        "idle it costs a row and a 64th of a bucket; in use, an open database for each bucket",
    ),
    (
        BackendKind::Embedded,
        Isolation::Database,
        "idle it costs a folder, in use an open database: for some hundreds of tenants at most",
    ),
    (BackendKind::Postgres, Isolation::Shared, "idle it costs a row"),
    (
        BackendKind::Postgres,
        Isolation::Schema,
        "idle it costs 13 relations and a role, some 65 kB: for some thousands of tenants",
    ),
    (
        BackendKind::Postgres,
        Isolation::Database,
        "idle it costs a database, some 8 MB, and in use connections that no other database can \
         have meanwhile: for some hundreds of tenants at most",
    ),
];

/// The rule when nothing asks for more.
pub(super) fn usual() -> Reason {
    Reason {
        rule: "usual",
        source: TREE,
        isolation: Some(Isolation::Shared),
        says: "nothing asks for more: any number of tenants can live so, and an idle one costs a \
               row"
        .into(),
    }
}

pub(super) fn stays(location: Location) -> Reason {
    Reason {
        rule: "stays",
        source: GUIDE,
        isolation: None,
        says: format!("its data stay at {location}: nothing demands another location"),
    }
}

pub(super) fn demanded(location: Location) -> Reason {
    let (rule, isolation, says) = if location == Location::Own {
        // The rung of this name, which is no second reason.
        ("own-database", Some(Isolation::Database), CARRIES.to_owned())
    } else {
        ("residency", None, format!("its data must be at {location}"))
    };
    Reason { rule, source: SOVEREIGNTY, isolation, says }
}

/// What the plan does not allow, and would be otherwise.
pub(super) fn planned(why: String) -> Reason {
    Reason { rule: "plan", source: PLAN, isolation: None, says: why }
}

/// Why the plan does not have the tenant come there, however it could live there.
pub(super) fn forbidden(case: &Case, location: Location) -> Option<String> {
    let plan = case.plan.as_ref()?;
    if !plan.places.has_location(location) {
        return plan.forbids(plan.places.isolations().next()?, location);
    }
    let site = case.sites.iter().find(|site| site.location == location)?;
    let mut why = site.isolations.iter().map(|one| plan.forbids(*one, location));
    let first = why.next()??;
    why.all(|why| why.is_some()).then_some(first)
}

/// Why a tenant cannot carry a database here.
pub(super) fn no_own(case: &Case) -> String {
    format!(
        "it should carry a database, which this process cannot reach: it stays at {}",
        case.location
    )
}

/// What is wrong with vectors that are too large for a place.
pub(super) fn too_wide(numbers: &Numbers, site: &Site) -> Option<String> {
    let dimension = numbers.dimension.filter(|n| *n > site.dimension_max)?;
    let (location, most) = (site.location, grouped(site.dimension_max.into()));
    let dimension = grouped(dimension.into());
    Some(format!("vectors of {dimension} components cannot be kept at {location}, {most} can"))
}

/// Why the tenant cannot be so at its location, and where it could.
pub(super) fn cannot_be(facts: &Facts<'_>, wanted: Isolation) -> String {
    let (wanted, location, isolation) = (wanted.word(), facts.location, wanted);
    let mut text = format!("{wanted} is asked for and cannot be made at {location}");
    match facts.site {
        None => text.push_str(": this process is not given the way to it"),
        Some(site) if site.backend == BackendKind::Postgres => {
            text.push_str(" by this process: that takes the admin's URL of that database");
        }
        Some(_) => {}
    }
    let others = facts.case.sites.iter().filter(|site| {
        let is_other = site.location != location && site.location != Location::Own;
        let plan = facts.case.plan.as_ref();
        let may_be = plan.is_none_or(|plan| plan.forbids(isolation, site.location).is_none());
        is_other && may_be && site.isolations.contains(&isolation)
    });
    let others: Vec<_> = others.map(|site| site.location.to_string()).collect();
    if !others.is_empty() {
        text.push_str("; it could be at ");
        text.push_str(&others.join(", "));
    }
    text
}

impl Facts<'_> {
    /// Records from which on a graph needs a place apart, where one does.
    pub(super) fn graphs_from(&self) -> Option<u64> {
        Some(self.site?.graphs?.records_min)
    }
}

/// What else to know of the recommended place.
pub(super) fn notes(facts: &Facts<'_>, recommended: Place, present: Place) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(cost) = facts.cost(recommended.isolation) {
        notes.push(format!("{}: {cost}", recommended.isolation.word()));
    }
    if let Some(bounds) = facts.site.and_then(|site| site.graphs) {
        let (from, most) = (grouped(bounds.records_min), grouped(bounds.dimension_max.into()));
        notes.push(if recommended.isolation == Isolation::Shared {
            format!(
                "collections of {from} records and more have no graph in shared on PostgreSQL: \
                 searches of them are exact and read all records"
            )
        } else {
            let mut text = format!(
                "collections have a graph from {from} records on, for vectors of up to {most} \
                 components"
            );
            if recommended.location == Location::Own {
                text.push_str(", if the tenant is given the admin's URL of its database too");
            }
            text
        });
    }
    if facts.needs.own_database && recommended.location == Location::Own {
        notes.push("it needs the URL of its database, which is given when it is made".into());
    }
    if facts.needs.load_percent == 0 {
        notes.push("load was not given and is not measured yet: it counts as none".into());
    }
    if recommended != present {
        let is_carried = [recommended, present].iter().any(|place| place.location == Location::Own);
        notes.push(if is_carried {
            "it cannot be moved there: a tenant carries a database of its own from when it is made \
             on, or never"
                .into()
        } else {
            "it can be moved there while it works: tenantry tenant move".into()
        });
    }
    notes
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
