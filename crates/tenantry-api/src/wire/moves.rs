//! Moves of tenants.

use super::{
    described::{BackendName, IsolationName, LocationText},
    own_database::location,
};
use serde::{Deserialize, Serialize};
use tenantry_engine::{
    BackendKind, Error, Isolation, Location, MovePhase, MoveStatus, MoveTarget, Result,
};
use utoipa::ToSchema;

/// Where a tenant is to be moved; what is not said stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveIn {
    /// `shared`, `schema` or `database`.
    #[schema(value_type = Option<IsolationName>)]
    isolation: Option<String>,
    /// `home`, or the name of one of the servers' locations.
    #[schema(value_type = Option<LocationText>)]
    location: Option<String>,
    /// `embedded` or `postgres`: refused if that is not what keeps the location. The location says it;
    /// this is for whoever wants to be sure.
    #[schema(value_type = Option<BackendName>)]
    backend: Option<String>,
}

impl MoveIn {
    pub(crate) fn target(&self) -> Result<MoveTarget> {
        let location = self.location.as_deref().map(|text| location("location", text));
        let isolation = self.isolation.as_deref().map(Isolation::parse).transpose()?;
        let location = location.transpose()?;
        if isolation.is_none() && location.is_none() {
            return Err(Error::invalid("say where to: give isolation, location, or both"));
        }
        Ok(MoveTarget { isolation, location })
    }

    pub(crate) fn backend(&self) -> Result<Option<BackendKind>> {
        self.backend.as_deref().map(BackendKind::parse).transpose()
    }
}

/// How and where a tenant lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MovePlaceOut {
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    isolation: &'static str,
    /// `home`, `own`, or the name of a location.
    location: String,
}

impl From<(Isolation, Location)> for MovePlaceOut {
    fn from((isolation, location): (Isolation, Location)) -> Self {
        Self { isolation: isolation.word(), location: location.to_string() }
    }
}

/// The move of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MoveOut {
    /// The tenant's name.
    tenant: String,
    /// Where it lives until the move switches, or lived.
    from: MovePlaceOut,
    /// Where it is to live, or does.
    to: MovePlaceOut,
    /// `queued`, `copying`, `catching_up`, `checking`, `switching`, `leaving`, `undoing`, `done`,
    /// `cancelled` or `failed`. From `leaving` on it lives in the new place.
    phase: &'static str,
    /// Whether nothing is left to do.
    over: bool,
    /// Records copied.
    records_copied: u64,
    /// Records of both copies that were compared; null before that, from `leaving` on, and if another
    /// server moves it.
    records_compared: Option<u64>,
    /// Records that there were when it began; 0 before that.
    records_total: u64,
    /// Records copied a second; while it is `checking`, those compared.
    records_per_second: f64,
    /// Seconds that copying, or while it is `checking` comparing, will still take; null if that
    /// cannot be told.
    seconds_left: Option<f64>,
    /// The longest time for which the tenant's writes had to wait, in milliseconds.
    longest_pause_ms: f64,
    /// When it was asked for, in milliseconds since 1970.
    begun_at_ms: u64,
    /// When it was over; null before that.
    ended_at_ms: Option<u64>,
    /// Why it has failed, or why a step of it is being tried again; null otherwise.
    error: Option<String>,
}

impl From<MoveStatus> for MoveOut {
    fn from(status: MoveStatus) -> Self {
        Self {
            tenant: status.name.to_string(),
            from: status.from.into(),
            to: status.to.into(),
            phase: word(status.phase),
            over: status.phase.is_over(),
            records_copied: status.records_copied,
            records_compared: status.records_compared,
            records_total: status.records_total,
            records_per_second: status.records_per_second,
            seconds_left: status.left.map(|left| left.as_secs_f64()),
            longest_pause_ms: status.longest_pause.as_secs_f64() * 1_000.0,
            begun_at_ms: status.begun_at.0,
            ended_at_ms: status.ended_at.map(|at| at.0),
            error: status.error,
        }
    }
}

fn word(phase: MovePhase) -> &'static str {
    match phase {
        MovePhase::Queued => "queued",
        MovePhase::Copying => "copying",
        MovePhase::CatchingUp => "catching_up",
        MovePhase::Checking => "checking",
        MovePhase::Switching => "switching",
        MovePhase::Leaving => "leaving",
        MovePhase::Undoing => "undoing",
        MovePhase::Done => "done",
        MovePhase::Cancelled => "cancelled",
        MovePhase::Failed => "failed",
    }
}

/// Moves that are not over, in the order in which they were asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MovesOut {
    pub(crate) moves: Vec<MoveOut>,
}
