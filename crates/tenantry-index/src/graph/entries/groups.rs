//! Entries in groups, so that a walk need not look at all of them when they are many: each
//! belongs to the group whose *leader*, one of its members, was nearest to it when it came.

use crate::{
    exact::Codes,
    graph::walk::{Guide, NodeGuide},
    kernels::Block,
    quantise::Terms,
};

/// Members of a group when it is split in two.
const SPLIT: usize = 64;

/// Groups of positions.
#[derive(Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    /// The leaders' codes.
    rows: Vec<Block>,
    /// The group of each position.
    of: Vec<u32>,
}

struct Group {
    leader: u32,
    terms: Terms,
    members: Vec<u32>,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let members: usize = self.groups.iter().map(|group| group.members.capacity()).sum();
        self.groups.capacity() * size_of::<Group>()
            + self.rows.capacity() * size_of::<Block>()
            + (members + self.of.capacity()) * size_of::<u32>()
    }

    /// The leaders' codes and terms.
    pub(super) fn leaders(&self) -> (&[Block], impl Iterator<Item = &Terms>) {
        (&self.rows, self.groups.iter().map(|group| &group.terms))
    }

    pub(super) fn members(&self, group: u32) -> &[u32] {
        &self.groups[group as usize].members
    }

    /// Takes in the entry in the last of `slots`, which may be split off a full group.
    pub(super) fn push(&mut self, slots: &[u32], codes: Codes<'_>) {
        let Some(&slot) = slots.last() else { return };
        let position = self.of.len();
        debug_assert_eq!(position + 1, slots.len(), "each entry has a group");
        let guide = NodeGuide::new(codes, slot, 0.0);
        let mut dots = vec![0; self.len()];
        codes.kernels.scan(guide.row(), &self.rows, &mut dots);
        let distances =
            self.groups.iter().zip(dots).map(|(group, dot)| guide.distance(&group.terms, dot));
        let nearest = (0..).zip(distances).min_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((group, _)) = nearest else {
            self.of.push(0);
            self.begin(position, slots, codes);
            return;
        };
        self.of.push(group);
        let members = &mut self.groups[group as usize].members;
        members.push(number(position));
        if members.len() > SPLIT {
            self.split(group, slots, codes);
        }
    }

    /// Forgets a position, which the last one takes.
    pub(super) fn swap_remove(&mut self, position: usize, slots: &[u32], codes: Codes<'_>) {
        let group = self.of[position];
        self.leave(group, position, slots, codes);
        let last = self.of.len() - 1;
        if position != last {
            let members = &mut self.groups[self.of[last] as usize].members;
            if let Some(at) = members.iter().position(|one| *one as usize == last) {
                members[at] = number(position);
            }
        }
        self.of.swap_remove(position);
    }

    /// A member leaves its group, for which another one leads, or which is given up.
    fn leave(&mut self, group: u32, position: usize, slots: &[u32], codes: Codes<'_>) {
        let index = group as usize;
        let Group { leader, members, .. } = &mut self.groups[index];
        members.retain(|one| *one as usize != position);
        if *leader != slots[position] {
            return;
        }
        if let Some(&heir) = members.first() {
            self.lead(index, slots[heir as usize], codes);
            return;
        }
        let width = self.rows.len() / self.groups.len();
        let last = self.rows.len() - width;
        self.rows.copy_within(last.., index * width);
        self.rows[last..].fill(Block::ZERO);
        self.rows.truncate(last);
        self.groups.swap_remove(index);
        if let Some(moved) = self.groups.get(index) {
            for &member in &moved.members {
                self.of[member as usize] = group;
            }
        }
    }

    fn lead(&mut self, group: usize, slot: u32, codes: Codes<'_>) {
        let row = codes.row(slot);
        self.groups[group].leader = slot;
        self.groups[group].terms = codes.terms[slot as usize];
        self.rows[group * row.len()..][..row.len()].copy_from_slice(row);
    }

    /// Begins a group with one member, which leads it.
    fn begin(&mut self, position: usize, slots: &[u32], codes: Codes<'_>) {
        let leader = slots[position];
        self.of[position] = number(self.groups.len());
        self.rows.extend_from_slice(codes.row(leader));
        let terms = codes.terms[leader as usize];
        self.groups.push(Group { leader, terms, members: vec![number(position)] });
    }

    /// Makes one of a full group's members a leader, which those nearer to it follow.
    fn split(&mut self, group: u32, slots: &[u32], codes: Codes<'_>) {
        let index = group as usize;
        let mut members = std::mem::take(&mut self.groups[index].members);
        let old = self.groups[index].leader;
        let middle = members.len() / 2;
        let chosen = if slots[members[middle] as usize] == old { middle + 1 } else { middle };
        let new = members.swap_remove(chosen);
        self.begin(new as usize, slots, codes);
        let at: Vec<u32> = members.iter().map(|member| slots[*member as usize]).collect();
        let distances = |leader: u32| -> Vec<f32> {
            let guide = NodeGuide::new(codes, leader, 0.0);
            let mut dots = Vec::new();
            codes.dots(guide.row(), &at, &mut dots);
            let each = at.iter().zip(dots);
            each.map(|(slot, dot)| guide.distance(&codes.terms[*slot as usize], dot)).collect()
        };
        let both = distances(old).into_iter().zip(distances(slots[new as usize]));
        for (member, (to_old, to_new)) in members.into_iter().zip(both) {
            let follows = if to_new < to_old && slots[member as usize] != old {
                self.groups.len() - 1
            } else {
                index
            };
            self.of[member as usize] = number(follows);
            self.groups[follows].members.push(member);
        }
    }

    /// Panics unless groups, members and positions fit together.
    #[cfg(test)]
    pub(super) fn check(&self, slots: &[u32], codes: Codes<'_>) {
        assert_eq!(self.of.len(), slots.len());
        let members: usize = self.groups.iter().map(|group| group.members.len()).sum();
        assert_eq!(members, slots.len());
        let width = self.rows.len() / self.len().max(1);
        for (number, group) in (0..).zip(&self.groups) {
            assert!(group.members.iter().all(|one| self.of[*one as usize] == number));
            assert!(group.members.iter().any(|one| slots[*one as usize] == group.leader));
            let row = &self.rows[number as usize * width..][..width];
            assert!(row == codes.row(group.leader), "the codes are the leader's");
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "there are at most some ten thousand entries")]
fn number(index: usize) -> u32 {
    index as u32
}
