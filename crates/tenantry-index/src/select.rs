//! The k smallest of many.

use std::{cmp::Ordering, collections::BinaryHeap};

/// A number for a distance or a bound of one, and what it belongs to. Ordered by both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ranked {
    pub(crate) value: f32,
    pub(crate) item: u32,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.total_cmp(&other.value).then(self.item.cmp(&other.item))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

/// Keeps the `k` smallest of what is offered.
pub(crate) struct Smallest {
    k: usize,
    heap: BinaryHeap<Ranked>,
    limit: f32,
}

impl Smallest {
    /// Keeps nothing yet. `k` is at least 1 and bounds the memory used.
    pub(crate) fn new(k: usize) -> Self {
        debug_assert!(k > 0);
        Self { k, heap: BinaryHeap::with_capacity(k), limit: f32::INFINITY }
    }

    /// How many it keeps.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// What is greater than this would not be kept; +∞ while there is room.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        self.limit
    }

    /// True if `k` items are held.
    pub(crate) fn full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// Keeps the item if it is among the `k` smallest so far.
    pub(crate) fn offer(&mut self, one: Ranked) {
        if !self.full() {
            self.heap.push(one);
        } else if let Some(mut largest) = self.heap.peek_mut()
            && one < *largest
        {
            *largest = one;
        }
        if self.full()
            && let Some(largest) = self.heap.peek()
        {
            self.limit = largest.value;
        }
    }

    /// What was kept, the smallest first.
    pub(crate) fn into_sorted(self) -> Vec<Ranked> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_smallest_are_kept_in_order_whatever_the_order_they_come_in(
            values in prop::collection::vec(-4_i16..4, 1..60), k in 1_usize..70
        ) {
            let mut all: Vec<Ranked> = values
                .iter()
                .zip(0..)
                .map(|(value, item)| Ranked { value: f32::from(*value), item })
                .collect();
            let mut smallest = Smallest::new(k);
            for one in all.iter().rev() {
                smallest.offer(*one);
                prop_assert_eq!(smallest.limit() < f32::INFINITY, smallest.full());
            }
            all.sort();
            all.truncate(k);
            prop_assert_eq!(smallest.into_sorted(), all);
        }
    }
}
