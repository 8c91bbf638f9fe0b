//! A handle of one tenant cannot be used with a session of another: a handle owns its scope, no
//! method takes a second handle, and its parts cannot be exchanged.

use tenantry_engine::*;

pub async fn open_with_the_other(b: &Session<Read>, of_a: &Database<Read>) {
    let _ = b.database(of_a).await; //~ E0308
}

pub async fn open_by_number(b: &Session<Read>, of_a: &Database<Read>) {
    let _ = b.database(of_a.info().number).await; //~ E0308
}

pub fn exchange_what_was_found(b: &mut Collection<Write>, a: Collection<Write>) {
    b.found = a.found; //~ E0616
}

pub fn exchange_the_scope(b: &mut Session<Admin>, a: Session<Admin>) {
    b.scope = a.scope; //~ E0616
}

pub fn take_the_scope_out(a: &Session<Admin>) {
    let _ = a.scope(); //~ E0599
}
