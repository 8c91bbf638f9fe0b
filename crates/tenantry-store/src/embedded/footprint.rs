//! What rows take in memory, as an allocator hands it out: the budget is kept in bytes that the
//! process really has, and small pieces take more than they hold.

use super::disk::Body;
use tenantry_types::{Metadata, Value};

/// Allocations beyond this are pages of their own; those that nobody wrote to take nothing.
const SMALL_MAX: usize = 14 << 10;
const PAGE: usize = 4 << 10;

/// Entries of a full node of a `BTreeMap`, and those of one of a larger map at least.
const NODE_FULL: usize = 11;
const NODE_HALF: usize = 6;
const NODE_BYTES: usize = NODE_FULL * (size_of::<String>() + size_of::<Value>()) + 16;
const INNER_BYTES: usize = NODE_BYTES + (NODE_FULL + 1) * size_of::<usize>();
/// The two counts of an `Arc`.
const ARC_HEAD: usize = 2 * size_of::<usize>();

/// What an allocation of so many bytes takes: its size class in jemalloc, the program's allocator
/// (multiples of 16 bytes up to 128, then four classes to each doubling). Others differ little.
pub(super) fn piece(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        129..=SMALL_MAX => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
        _ => bytes.next_multiple_of(PAGE),
    }
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

#[cfg(test)]
mod tests {
    use super::piece;

    #[test]
    fn pieces_are_the_allocators_size_classes() {
        for (bytes, class) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (128, 128),
            (129, 160),
            (256, 256),
            (257, 320),
            (1_537, 1_792),
            (14_336, 14_336),
            (14_337, 16_384),
            (20_481, 24_576),
        ] {
            assert_eq!(piece(bytes), class, "{bytes}");
        }
    }
}
