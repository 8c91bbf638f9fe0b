//! Plain Rust: the reference for the other variants and the fallback.

use super::{Block, Kernels, row};

pub(super) static KERNELS: Kernels = Kernels { name: "scalar", scan, gather, dot, squared_l2 };

fn scan(query: &[Block], rows: &[Block], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        *out = product(query, row);
    }
}

fn gather(query: &[Block], rows: &[Block], numbers: &[u32], out: &mut [i32]) {
    for (number, out) in numbers.iter().zip(out) {
        *out = product(query, row(rows, query.len(), *number));
    }
}

fn product(query: &[Block], row: &[Block]) -> i32 {
    let mut sum = 0;
    for (Block(q), Block(r)) in query.iter().zip(row) {
        sum += q.iter().zip(r).map(|(q, r)| i32::from(*q) * i32::from(*r)).sum::<i32>();
    }
    sum
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

fn squared_l2(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| (a - b) * (a - b))
}

/// Sixteen running sums, so that the compiler may use vector registers and rounding errors grow
/// with a sixteenth of the length.
#[inline]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(*a, *b);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(*a, *b);
    }
    lanes.iter().sum()
}
