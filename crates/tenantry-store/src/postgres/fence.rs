//! What stands before a tenant's counters while it is being moved.
//!
//! Counters are sealed; a byte before them is clear, so that whoever meets them, on any node and with
//! or without the tenant's key, knows at once that the place takes nothing: writers lock the row,
//! and every read of a tenant's data has it in its answer. An older program takes such counters for
//! damaged.

use crate::tenancy::moving::{MoverId, moved};
use tenantry_types::{Error, Result};

/// Nobody reads or writes here: the tenant lives elsewhere, or will in a moment.
const CLOSED: u8 = 0xff;
/// A tenant is arriving: what follows is who moves it, then its counters once all has arrived.
const ARRIVING: u8 = 0xfe;

/// The sealed counters in a stored row. Fails with words to try again if the place is closed.
pub(super) fn counters(row: &[u8]) -> Result<&[u8]> {
    let cut = || Error::corrupt("a tenant is named to live where it has not arrived");
    match row.split_first() {
        Some((&CLOSED, _)) => Err(moved()),
        // The root sends nobody here before it says that the tenant has arrived.
        Some((&ARRIVING, rest)) => {
            let rest = rest.get(size_of::<MoverId>()..).filter(|rest| !rest.is_empty());
            rest.ok_or_else(cut)
        }
        _ => Ok(row),
    }
}

/// Counters of a place that is closed.
pub(super) fn closed(row: &[u8]) -> Vec<u8> {
    [&[CLOSED], row].concat()
}

/// The row that a closed place had before; none if it is not closed.
pub(super) fn opened(row: &[u8]) -> Option<&[u8]> {
    row.strip_prefix(&[CLOSED])
}

/// Counters of a place where this mover puts a tenant.
pub(super) fn arriving(by: MoverId, counters: &[u8]) -> Vec<u8> {
    [&[ARRIVING], &by[..], counters].concat()
}

/// True if some mover has put it there.
pub(super) fn is_arriving(row: &[u8]) -> bool {
    row.first() == Some(&ARRIVING)
}

/// True if this one has.
pub(super) fn is_arriving_by(row: &[u8], by: MoverId) -> bool {
    row.strip_prefix(&[ARRIVING]).is_some_and(|rest| rest.starts_with(&by))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{
        disk::Head,
        seal::{Nonces, SealingKey},
    };
    use zeroize::Zeroizing;

    /// The first byte of sealed bytes is their format, which is small.
    #[test]
    fn what_is_sealed_is_not_taken_for_closed() {
        let key = SealingKey::new(Zeroizing::new([7; 32]), 1);
        let mut nonces = Nonces::draw(&crate::SystemEntropy);
        let head = crate::tenancy::disk::encode(&crate::tenancy::disk::DiskHead::from_head(
            &Head::default(),
        ));
        let sealed = key.seal(b"key", &head, true, &mut nonces);
        assert_eq!(counters(&sealed).unwrap(), sealed);
        assert!(opened(&sealed).is_none() && !is_arriving(&sealed));
        let shut = closed(&sealed);
        assert!(counters(&shut).is_err());
        assert_eq!(opened(&shut).unwrap(), sealed);
        let (by, other) = ([1; 16], [2; 16]);
        assert!(counters(&arriving(by, b"")).is_err());
        let arrived = arriving(by, &sealed);
        assert_eq!(counters(&arrived).unwrap(), sealed);
        assert!(is_arriving_by(&arrived, by) && !is_arriving_by(&arrived, other));
        assert!(counters(&closed(&arrived)).is_err());
        assert_eq!(opened(&closed(&arrived)).unwrap(), arrived);
    }
}
