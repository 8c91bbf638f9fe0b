//! The vectors of a partition's records: an index for each vector name.

use super::{fetch::is_asked, recall::Sampler, write::VECTOR};
use crate::{CollectionInfo, tenancy::answer::Records};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};
use tenantry_index::{IndexConfig, Neighbour, Progress, Storage, VectorIndex, Work};
use tenantry_types::{Result, VectorName, VectorSpec, VectorStatistics, VectorStorage};

/// The vectors of all names.
#[derive(Debug)]
pub(crate) struct Vectors {
    /// By their numbers, so the unnamed ones first.
    fields: Vec<Field>,
    /// Which field's index is looked at first for maintenance.
    next: AtomicUsize,
}

/// The vectors of one name.
#[derive(Debug)]
pub(crate) struct Field {
    number: u16,
    /// `None`: the unnamed one.
    name: Option<VectorName>,
    spec: VectorSpec,
    config: IndexConfig,
    /// Made with the first vector.
    index: Option<VectorIndex>,
    /// Slots to make room for when the index is made.
    rows: usize,
    sampler: Sampler,
}

/// A piece of maintenance of one name's index.
#[derive(Debug)]
pub(crate) struct FieldWork(u16, Work);

impl Field {
    fn new(number: u16, name: Option<VectorName>, spec: VectorSpec, config: IndexConfig) -> Self {
        let storage = match spec.storage {
            VectorStorage::Full => Storage::Full,
            VectorStorage::Half => Storage::Half,
            VectorStorage::Int8 => Storage::Int8,
        };
        // Unrelated indexes need unrelated chance; the unnamed one's is the collection's.
        let seed = config.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let config = IndexConfig { storage, seed, ..config };
        Self { number, name, spec, config, index: None, rows: 0, sampler: Sampler::default() }
    }

    /// The index, once there is a vector.
    pub(crate) fn index(&self) -> Option<&VectorIndex> {
        self.index.as_ref()
    }

    /// Takes a query that the graph answered as a sample, if it is one's turn.
    pub(crate) fn offer(&self, vector: &[f32], k: usize, found: &[Neighbour]) {
        self.sampler.offer(vector, k, found);
    }

    fn set(&mut self, slot: u32, vector: &[f32]) {
        let index = self.index.get_or_insert_with(|| {
            let mut index = VectorIndex::new(self.spec.metric, vector.len(), self.config);
            index.reserve(self.rows);
            index
        });
        index.set(slot, vector);
    }

    fn statistics(&self) -> VectorStatistics {
        let Progress { linked, pending, .. } =
            self.index.as_ref().map(VectorIndex::progress).unwrap_or_default();
        let (recall, recall_samples) = self.sampler.recall();
        VectorStatistics {
            bytes: self.bytes() as u64,
            linked: linked as u64,
            pending: pending as u64,
            recall,
            recall_samples,
        }
    }

    fn bytes(&self) -> usize {
        self.index.as_ref().map_or(0, VectorIndex::bytes)
    }
}

impl Vectors {
    /// Those that a collection may have.
    pub(crate) fn new(info: &CollectionInfo, config: IndexConfig) -> Self {
        let fields = info.fields().into_iter();
        let fields =
            fields.map(|(number, name, spec)| Field::new(number, name.cloned(), spec, config));
        Self { fields: fields.collect(), next: AtomicUsize::new(0) }
    }

    /// Makes room for this many rows when the first vector of a name comes.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.fields.iter_mut().for_each(|field| field.rows = rows);
    }

    /// The vectors of one name.
    pub(crate) fn field(&self, number: u16) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }

    /// The index of a number, once there is a vector.
    pub(crate) fn index(&self, number: u16) -> Option<&VectorIndex> {
        self.field(number)?.index()
    }

    /// The indexes that there are, with their numbers.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = (u16, &VectorIndex)> {
        self.fields.iter().filter_map(|field| Some((field.number, field.index()?)))
    }

    /// Sets a vector of a row.
    pub(crate) fn set(&mut self, slot: u32, number: u16, vector: &[f32]) {
        if let Some(field) = self.fields.iter_mut().find(|field| field.number == number) {
            field.set(slot, vector);
        }
    }

    /// Gives the index of a number saved links; see [`VectorIndex::restore_packed`].
    pub(crate) fn restore_packed(
        &mut self,
        number: u16,
        links: &[u8],
        place: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        let field = self.fields.iter_mut().find(|field| field.number == number);
        match field.and_then(|field| field.index.as_mut()) {
            Some(index) => index.restore_packed(links, place),
            None => Ok(()),
        }
    }

    /// Removes all vectors of a row.
    pub(crate) fn clear(&mut self, slot: u32) {
        self.indexes_mut().for_each(|index| index.clear(slot));
    }

    /// Follows the rows to other slots.
    pub(crate) fn remap(&mut self, place: impl Fn(u32) -> Option<u32>) {
        self.indexes_mut().for_each(|index| index.remap(&place));
        self.fields.iter().for_each(|field| field.sampler.forget());
    }

    fn indexes_mut(&mut self) -> impl Iterator<Item = &mut VectorIndex> {
        self.fields.iter_mut().filter_map(|field| field.index.as_mut())
    }

    /// Bytes of vectors, their codes and the graphs.
    pub(crate) fn bytes(&self) -> usize {
        self.fields.iter().map(Field::bytes).sum()
    }

    /// What the unnamed ones take and how far their graph is, and the same of each name.
    pub(crate) fn statistics(&self) -> (VectorStatistics, BTreeMap<VectorName, VectorStatistics>) {
        let unnamed = self.field(VECTOR).map(Field::statistics).unwrap_or_default();
        let named = self.fields.iter().filter_map(|f| Some((f.name.clone()?, f.statistics())));
        (unnamed, named.collect())
    }

    /// True if there is something for [`Vectors::work`] or [`Vectors::sample`] to do.
    pub(crate) fn has_work(&self) -> bool {
        self.is_sampled() || self.fields.iter().filter_map(Field::index).any(VectorIndex::has_work)
    }

    /// The next piece of maintenance. The names take turns.
    pub(crate) fn work(&self) -> Option<FieldWork> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.fields.len().max(1);
        let (before, after) = self.fields.split_at_checked(first)?;
        after
            .iter()
            .chain(before)
            .find_map(|field| Some(FieldWork(field.number, field.index.as_ref()?.work()?)))
    }

    /// Takes over a piece of maintenance.
    pub(crate) fn apply(&mut self, FieldWork(number, work): FieldWork) {
        let field = self.fields.iter_mut().find(|field| field.number == number);
        if let Some(index) = field.and_then(|field| field.index.as_mut()) {
            index.apply(work);
        }
    }

    /// True while a sample of recall waits for [`Vectors::sample`].
    pub(crate) fn is_sampled(&self) -> bool {
        self.fields.iter().any(|field| field.sampler.is_waiting())
    }

    /// Goes on with the sample of a query's recall, if one was taken: a piece of a scan.
    pub(crate) fn sample(&self, rows: usize) {
        let waiting = self.fields.iter().find(|field| field.sampler.is_waiting());
        if let Some((field, index)) = waiting.and_then(|field| Some((field, field.index()?))) {
            field.sampler.step(index, rows);
        }
    }

    /// Gives a row's asked vectors to the record that was pushed last, or notes that they must be
    /// read from disk because they are not in memory as they were given.
    pub(super) fn answer(&self, slot: u32, ordinal: u64, answer: &mut Records) -> Result<()> {
        let include = answer.include();
        let held = self.fields.iter().filter(|field| is_asked(field.name.as_ref(), include));
        for (field, index) in held.filter_map(|field| Some((field, field.index()?))) {
            if !index.contains(slot) {
                continue;
            }
            answer.count(index.dimension() * size_of::<f32>())?;
            match index.get(slot) {
                Some(vector) => answer.set_vector(field.name.as_ref(), vector.to_vec()),
                None => answer.read_later(ordinal),
            }
        }
        Ok(())
    }
}
