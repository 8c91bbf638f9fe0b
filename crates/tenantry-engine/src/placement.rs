//! When the server moves tenants by itself: rules that the operator has written, read by one pure
//! function. Without a policy nothing is moved that nobody asks for.
//!
//! The first rule that applies counts. Rules that could send a tenant back and forth are refused: no
//! size of a tenant, and none a fifth below a bound that it has to pass, may lead around a circle.

mod plan;
mod run;
mod verdict;

pub(crate) use plan::{AT_ONCE, plan};
pub use plan::{Plan, Planned};
pub(crate) use run::spawn;
pub use verdict::{Block, Decision, Stay, Verdict};

use std::time::Duration;
use tenantry_store::{MoveTarget, Site, TenantSizes};
use tenantry_types::{Isolation, Location, TenantPlan, Timestamp};

/// A tenant whose setting of this name has this value is never moved by a policy.
pub const SETTING: (&str, &str) = ("placement", "fixed");
/// Rules of a policy.
pub const RULES_MAX: usize = 32;

/// Which tenants go where. All that is said must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Tenants that live so.
    pub from: Isolation,
    /// Only those that are there.
    pub from_location: Option<Location>,
    /// How they are to live.
    pub to: Isolation,
    /// Where, if not where they are.
    pub to_location: Option<Location>,
    /// With more records than this.
    pub records_over: Option<u64>,
    /// With fewer.
    pub records_under: Option<u64>,
    /// With more bytes of vectors than this, four for each component.
    pub bytes_over: Option<u64>,
    /// With fewer.
    pub bytes_under: Option<u64>,
}

/// How often it is looked, and how much is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often all tenants are looked at.
    pub every: Duration,
    /// How long a tenant stays at least where it was made or moved to, or where a move of it came to
    /// nothing.
    pub stay: Duration,
    /// Moves asked for in 24 hours, by one process.
    pub moves_per_day: u32,
}

impl Default for Timing {
    /// Every hour, a stay of a day, 24 moves a day.
    fn default() -> Self {
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        Self { every: hour, stay: day, moves_per_day: 24 }
    }
}

/// Why rules are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which one, from zero; none if it is about all.
    pub rule: Option<usize>,
    /// Why.
    pub why: String,
}

/// Rules that fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    timing: Timing,
}

/// What is known of a tenant before it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// How it lives.
    pub isolation: Isolation,
    /// Where.
    pub location: Location,
    /// It has the [`SETTING`].
    pub is_fixed: bool,
    /// An import or a copy still fills it.
    pub is_arriving: bool,
    /// A move of it is not over.
    pub is_moving: bool,
    /// Since when it is there: when it was made, or its last move was over.
    pub since: Timestamp,
}

impl Policy {
    /// Takes rules if they fit together.
    pub fn new(rules: Vec<Rule>, timing: Timing) -> Result<Self, Refusal> {
        let of_all = |why: &str| Refusal { rule: None, why: why.to_owned() };
        if rules.is_empty() {
            return Err(of_all("there are no rules"));
        }
        if rules.len() > RULES_MAX {
            return Err(of_all(&format!("there are more than {RULES_MAX} rules")));
        }
        if timing.every < Duration::from_secs(1) {
            return Err(of_all("every must be a second at least"));
        }
        for (at, rule) in rules.iter().enumerate() {
            rule.check().map_err(|why| Refusal { rule: Some(at), why })?;
        }
        if let Some((at, circle)) = circle(&rules) {
            let numbers: Vec<_> = circle.iter().map(|at| format!("{}", at + 1)).collect();
            let why = format!(
                "rules {} could send a tenant back and forth: what brings it back must be a fifth \
                 below what sends it away, for instance records_under 80 after records_over 100",
                numbers.join(" and ")
            );
            return Err(Refusal { rule: Some(at), why });
        }
        Ok(Self { rules, timing })
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// When and how much.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Why the tenant stays whatever its size is; none if that decides, so that it must be measured.
    pub fn stays(&self, case: &Case, sites: &[Site], now: Timestamp) -> Option<Stay> {
        let stayed = Duration::from_millis(now.0.saturating_sub(case.since.0));
        let left = self.timing.stay.saturating_sub(stayed);
        if case.location == Location::Own {
            Some(Stay::Own)
        } else if case.is_arriving {
            Some(Stay::Arriving)
        } else if case.is_moving {
            Some(Stay::Moving)
        } else if case.is_fixed {
            Some(Stay::Fixed)
        } else if !self.rules.iter().any(|rule| rule.is_of(case)) {
            Some(Stay::NoRule)
        } else if !left.is_zero() {
            Some(Stay::Recent(left))
        } else if site_of(sites, case.location).is_none() {
            Some(Stay::Away(case.location))
        } else {
            None
        }
    }

    /// What the first rule that applies says; `sizes` are those of the tenant, none if its place was
    /// never made, and `plan` is its plan, if it has one. The one decision: for what is done, and for
    /// what is only told.
    pub fn decide(
        &self,
        case: &Case,
        (sizes, plan): (Option<&TenantSizes>, Option<&TenantPlan>),
        sites: &[Site],
        now: Timestamp,
    ) -> Verdict {
        if let Some(why) = self.stays(case, sites, now) {
            return Verdict::Stay(why);
        }
        let Some(sizes) = sizes else { return Verdict::Stay(Stay::Empty) };
        let first = self.rules.iter().enumerate().find(|(_, rule)| rule.applies(case, sizes));
        let Some((rule, one)) = first else { return Verdict::Stay(Stay::fits(sizes)) };
        let to = MoveTarget { isolation: Some(one.to), location: one.to_location };
        let why = format!("rule {}: {}", rule + 1, one.words(sizes));
        let decision = Decision { rule, to, why };
        let location = one.to_location.unwrap_or(case.location);
        let forbidden = plan.and_then(|plan| plan.forbids(one.to, location)).map(Block::Plan);
        match forbidden.or_else(|| cannot(sites, one.to, location).map(Block::Site)) {
            None => Verdict::Move(decision),
            Some(why) => Verdict::Blocked(decision, why),
        }
    }
}

fn site_of(sites: &[Site], location: Location) -> Option<&Site> {
    sites.iter().find(|site| site.location == location)
}

/// Why no tenant can be made so in this place.
fn cannot(sites: &[Site], isolation: Isolation, location: Location) -> Option<String> {
    let Some(site) = site_of(sites, location) else {
        return Some(format!("there is no location {location} here"));
    };
    let can = site.isolations.contains(&isolation);
    (!can).then(|| format!("isolation {} cannot be made at {location} here", isolation.word()))
}

impl Rule {
    /// Its bounds by name: more than, fewer than.
    fn bounds(&self) -> [(&'static str, Option<u64>, Option<u64>); 2] {
        [
            ("records", self.records_over, self.records_under),
            ("bytes", self.bytes_over, self.bytes_under),
        ]
    }

    fn check(&self) -> Result<(), String> {
        let stays = self.to_location.is_none() || self.to_location == self.from_location;
        if self.from == self.to && stays {
            return Err("it leads to where the tenant is".to_owned());
        }
        if [self.from_location, self.to_location].contains(&Some(Location::Own)) {
            return Err("tenants in a database of their own are not moved".to_owned());
        }
        if self.bounds().iter().all(|(_, over, under)| over.is_none() && under.is_none()) {
            return Err("it has no bound: give records_over, records_under, bytes_over or \
                        bytes_under"
                .to_owned());
        }
        for (name, over, under) in self.bounds() {
            if over.zip(under).is_some_and(|(over, under)| over.saturating_add(1) >= under) {
                return Err(format!("no number is over its {name}_over and under {name}_under"));
            }
        }
        Ok(())
    }

    fn is_of(&self, case: &Case) -> bool {
        let is_there = self.to_location.unwrap_or(case.location) == case.location;
        self.from == case.isolation
            && case.location != Location::Own
            && self.from_location.is_none_or(|location| location == case.location)
            && !(self.to == case.isolation && is_there)
    }

    fn applies(&self, case: &Case, sizes: &TenantSizes) -> bool {
        let numbers = [sizes.records, sizes.vector_bytes];
        let fits = |((_, over, under), number): (_, u64)| {
            let (over, under): (Option<u64>, Option<u64>) = (over, under);
            over.is_none_or(|over| number > over) && under.is_none_or(|under| number < under)
        };
        self.is_of(case) && self.bounds().into_iter().zip(numbers).all(fits)
    }

    fn words(&self, sizes: &TenantSizes) -> String {
        let mut words = Vec::new();
        let numbers = [sizes.records, sizes.vector_bytes];
        for ((name, over, under), number) in self.bounds().into_iter().zip(numbers) {
            words.extend(over.map(|over| format!("{number} {name} are more than {over}")));
            words.extend(under.map(|under| format!("{number} {name} are fewer than {under}")));
        }
        words.join(", ")
    }

    /// True for a tenant of this size, also if it is a fifth below what it must have more than.
    fn nearly_applies(&self, numbers: [u64; 2]) -> bool {
        self.bounds().into_iter().zip(numbers).all(|((_, over, under), number)| {
            over.is_none_or(|over| number > nearly(over))
                && under.is_none_or(|under| number < under)
        })
    }

    /// True if this rule can be the next one for a tenant that another one has moved.
    fn can_follow(&self, before: &Self) -> bool {
        // Where it is, if that is known.
        let location = before.to_location.or(before.from_location);
        let is_there = location.zip(self.from_location).is_none_or(|(is, from)| is == from);
        self.from == before.to && is_there
    }
}

fn nearly(over: u64) -> u64 {
    over - over / 5
}

/// Rules that lead around a circle for a tenant of some size, and the last of them.
fn circle(rules: &[Rule]) -> Option<(usize, Vec<usize>)> {
    // Sizes at which another set of rules begins to apply.
    let sizes = |which: usize| {
        let mut all = vec![0];
        for (_, over, under) in rules.iter().map(|rule| rule.bounds()[which]) {
            all.extend(over.map(|over| nearly(over).saturating_add(1)));
            all.extend(under.and_then(|under| under.checked_sub(1)));
        }
        all.sort_unstable();
        all.dedup();
        all
    };
    for records in sizes(0) {
        for bytes in sizes(1) {
            let fit = |at: &usize| rules[*at].nearly_applies([records, bytes]);
            let some: Vec<usize> = (0..rules.len()).filter(fit).collect();
            for first in &some {
                if let Some(circle) = way(rules, &some, *first) {
                    return Some((*circle.iter().max()?, circle));
                }
            }
        }
    }
    None
}

/// A way from a rule back to it.
fn way(rules: &[Rule], some: &[usize], first: usize) -> Option<Vec<usize>> {
    let mut seen = vec![false; rules.len()];
    let mut ways = vec![vec![first]];
    while let Some(so_far) = ways.pop() {
        let last = *so_far.last()?;
        for next in some.iter().filter(|next| rules[**next].can_follow(&rules[last])) {
            if *next == first && so_far.len() > 1 {
                return Some(so_far);
            }
            if *next != first && !std::mem::replace(&mut seen[*next], true) {
                ways.push([&so_far[..], &[*next]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "placement/tests.rs"]
mod tests;
