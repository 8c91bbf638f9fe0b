//! Things in the order of their last use, each with a key; finds the oldest whose key is above a
//! bound in logarithmic time.
//!
//! Uses are numbered. A use takes the next place of an array; the place of the use before is
//! vacated. Over the array stands a tree of maxima. When the array is full, the vacated places
//! are squeezed out, which happens so seldom that it costs each use next to nothing.

const PLACES_MIN: usize = 64;

/// Things of type `T` by their last use.
#[derive(Debug)]
pub(super) struct Recency<T> {
    // INVARIANT: the numbers of uses ascend.
    places: Vec<Place<T>>,
    /// A complete binary tree: the root is at 1, the keys of the places are the leaves, whose
    /// number is half of the length, and every other node is the greater of its two children. A
    /// key of 0 is as good as vacated.
    tree: Vec<u64>,
    occupied: usize,
    uses: u64,
}

#[derive(Debug)]
struct Place<T> {
    number: u64,
    thing: Option<T>,
}

impl<T: Copy> Recency<T> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::with_capacity(PLACES_MIN),
            tree: vec![0; 2 * PLACES_MIN],
            occupied: 0,
            uses: 0,
        }
    }

    /// Notes a use; returns its number. Its key is 0.
    pub(super) fn push(&mut self, thing: T) -> u64 {
        if self.places.len() == self.leaves() {
            self.squeeze();
        }
        self.uses += 1;
        self.occupied += 1;
        self.places.push(Place { number: self.uses, thing: Some(thing) });
        self.uses
    }

    /// True if nothing was used since.
    pub(super) fn is_last(&self, number: u64) -> bool {
        self.uses == number
    }

    /// Vacates the place of a use.
    pub(super) fn vacate(&mut self, number: u64) {
        let Some(index) = self.index(number) else { return };
        if self.places.get_mut(index).and_then(|place| place.thing.take()).is_some() {
            self.occupied -= 1;
            self.put(index, 0);
        }
    }

    /// Sets the key of a use.
    pub(super) fn set_key(&mut self, number: u64, key: u64) {
        if let Some(index) = self.index(number) {
            self.put(index, key);
        }
    }

    /// What was used longest ago among all whose key is above `bound`.
    pub(super) fn oldest_above(&self, bound: u64) -> Option<T> {
        let above = |node: usize| self.tree.get(node).is_some_and(|key| *key > bound);
        if !above(1) {
            return None;
        }
        let mut node = 1;
        while node < self.leaves() {
            node = if above(2 * node) { 2 * node } else { 2 * node + 1 };
        }
        self.places.get(node - self.leaves())?.thing
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self { uses: self.uses, ..Self::new() };
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    fn index(&self, number: u64) -> Option<usize> {
        self.places.binary_search_by_key(&number, |place| place.number).ok()
    }

    fn put(&mut self, index: usize, key: u64) {
        let mut node = self.leaves() + index;
        let mut value = key;
        while let Some(here) = self.tree.get_mut(node) {
            if *here == value {
                return;
            }
            *here = value;
            if node <= 1 {
                return;
            }
            let sibling = self.tree.get(node ^ 1).copied().unwrap_or_default();
            value = value.max(sibling);
            node /= 2;
        }
    }

    /// Squeezes the vacated places out, and leaves as many free ones as there are others.
    fn squeeze(&mut self) {
        let leaves = (2 * self.occupied).next_power_of_two().max(PLACES_MIN);
        let before = self.leaves();
        let mut tree = vec![0; 2 * leaves];
        let mut places = Vec::with_capacity(leaves);
        let keys = self.tree.get(before..).unwrap_or_default();
        for (place, key) in self.places.drain(..).zip(keys) {
            if place.thing.is_some() {
                if let Some(leaf) = tree.get_mut(leaves + places.len()) {
                    *leaf = *key;
                }
                places.push(place);
            }
        }
        for node in (1..leaves).rev() {
            let children = tree.get(2 * node..2 * node + 2).unwrap_or_default();
            let greater = children.iter().copied().max().unwrap_or_default();
            if let Some(here) = tree.get_mut(node) {
                *here = greater;
            }
        }
        self.places = places;
        self.tree = tree;
    }
}
