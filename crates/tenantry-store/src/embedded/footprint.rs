//! What rows take in memory, as an allocator hands it out: the budget is kept in bytes that the
//! process really has, and small pieces take more than they hold.

use super::disk::Body;
use tenantry_types::{Metadata, Value};

/// An allocation is this much larger, at least [`PIECE_MIN`], and a multiple of [`PIECE_UNIT`]
/// (glibc's malloc; others differ little).
const PIECE_HEAD: usize = 8;
const PIECE_MIN: usize = 32;
const PIECE_UNIT: usize = 16;

/// Entries of a full node of a `BTreeMap`, and those of one of a larger map at least.
const NODE_FULL: usize = 11;
const NODE_HALF: usize = 6;
const NODE_BYTES: usize = NODE_FULL * (size_of::<String>() + size_of::<Value>()) + 16;
const INNER_BYTES: usize = NODE_BYTES + (NODE_FULL + 1) * size_of::<usize>();
/// The two counts of an `Arc`.
const ARC_HEAD: usize = 2 * size_of::<usize>();

/// What an allocation of so many bytes takes.
pub(super) fn piece(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + PIECE_HEAD).next_multiple_of(PIECE_UNIT).max(PIECE_MIN) }
}

/// What hangs on a row, with its id once more as a key.
pub(super) fn of_row(body: &Body) -> usize {
    piece(body.id.capacity())
        + piece(body.id.len())
        + body.document.as_ref().map_or(0, |text| piece(ARC_HEAD + text.len()))
        + body.uri.as_ref().map_or(0, |uri| piece(uri.capacity()))
        + body.metadata.as_ref().map_or(0, |all| of_metadata(all))
}

fn of_metadata(metadata: &Metadata) -> usize {
    let nodes = match metadata.len() {
        0 => 0,
        len if len <= NODE_FULL => piece(NODE_BYTES),
        len => {
            let leaves = len.div_ceil(NODE_HALF);
            leaves * piece(NODE_BYTES) + leaves.div_ceil(NODE_HALF) * piece(INNER_BYTES)
        }
    };
    let entries = metadata.iter().map(|(key, value)| piece(key.capacity()) + of_value(value));
    piece(ARC_HEAD + size_of::<Metadata>()) + nodes + entries.sum::<usize>()
}

fn of_value(value: &Value) -> usize {
    match value {
        Value::Str(text) => piece(text.capacity()),
        Value::List(items) => {
            piece(items.capacity() * size_of::<Value>()) + items.iter().map(of_value).sum::<usize>()
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
    }
}
