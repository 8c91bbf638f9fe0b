//! The words of Tenantry: parsed names, metadata values, records, filters, queries, limits and errors.
//!
//! Types here are *parsed*: a value that exists is valid, so nobody checks twice.
//! This crate does no I/O, knows no protocol and no disk format, and its types are not
//! serializable on purpose: each edge has its own wire types and converts.

mod budget;
mod clock;
mod email;
mod error;
mod filter;
mod json_numbers;
mod limits;
mod location;
mod name;
mod network;
mod places;
mod plan;
mod query;
mod quota;
mod rate;
mod record;
mod shown;
mod subdomain;
mod tenant;
mod term;
mod usage;
mod value;
mod vector;
mod webhook;

pub use budget::Budget;
pub use clock::{Clock, Timestamp};
pub use email::Email;
pub use error::{Error, ErrorKind, Resource, Result};
pub use filter::{FieldTest, Filter, TextTest};
pub use json_numbers::JsonNumbers;
pub use limits::{Limits, LimitsChange};
pub use location::{Location, LocationName, OwnDatabase, SecretText};
pub use name::{
    CollectionId, CollectionName, CollectionNumber, DEFAULT_DATABASE, DatabaseId, DatabaseName,
    DatabaseNumber, GroupName, NAME_BYTES_MAX, PlanName, RecordId, TenantName, WebhookName,
};
pub use network::{Network, is_public};
pub use places::Places;
pub use plan::{Allowance, Exception, Exceptions, PLANS_MAX, SharedFailure, TenantPlan};
pub use query::{
    CollectionChange, CollectionSpec, CollectionStatistics, Explain, Found, GetRequest, Hit,
    Include, MemoryStatistics, Metric, Order, Page, QueryRequest, SearchPlan, SearchStep, Selector,
    VectorStatistics,
};
pub use quota::Quotas;
pub use rate::{Period, Rate, Rates};
pub use record::{
    Existing, Metadata, MetadataPatch, Missing, Record, RecordWrite, WriteMode, WriteOutcome,
};
pub use shown::{csv_text, is_invisible};
pub use subdomain::{is_silent_subdomain, parse_subdomain};
pub use tenant::{IdempotencyKey, Isolation, TenantSpec, TenantState};
pub use term::{Amount, ExceptionChange, Term};
pub use usage::{
    Amounts, Bill, Day, Every, Hour, Meter, MicroUnits, Month, Price, Reported, Tariff, UsageEvent,
    Used,
};
pub use value::Value;
pub use vector::{VectorName, VectorSpec, VectorStorage};
pub use webhook::{EventId, EventKind, EventKinds, Fact, WEBHOOKS_MAX, WebhookUrl};
