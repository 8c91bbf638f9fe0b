//! The seal itself cannot be named.

pub struct Mine;

impl tenantry_auth::level::sealed::Sealed for Mine {} //~ E0603
