//! Levels are sealed: nobody makes one of his own.

use tenantry_engine::{CanWrite, Level, Read, Role, Session, Write};

pub struct Mine;

impl Level for Mine { //~ E0277
    const ROLE: Role = Role::Read;
}

impl CanWrite for Read {} //~ E0117

pub fn unlevelled(_: &Session<Mine>, _: &Session<Write>) {}
