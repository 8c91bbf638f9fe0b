//! What makes principals and scopes cannot be named above the engine.

use tenantry_engine::Credential; //~ E0432
use tenantry_engine::KeyDirectory; //~ E0432
use tenantry_engine::OperatorScope; //~ E0432
use tenantry_engine::Scope; //~ E0432
use tenantry_engine::SystemScope; //~ E0432
use tenantry_engine::DatabaseRef; //~ E0432
use tenantry_engine::CollectionRef; //~ E0432
