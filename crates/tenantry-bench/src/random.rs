//! Random numbers that are the same on every machine for one seed.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let wide = (u128::from(self.next()) * end as u128) >> 64;
        usize::try_from(wide).unwrap_or_default()
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Puts a list into any order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        (1..list.len()).rev().for_each(|last| list.swap(last, self.below(last + 1)));
    }

    /// Normally distributed, mean 0, deviation 1 (Marsaglia's polar method).
    pub(crate) fn normal(&mut self) -> f32 {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return narrow(x * (-2.0 * square.ln() / square).sqrt());
            }
        }
    }

    /// `count` different numbers below `end`, ascending (Knuth's selection sampling).
    pub(crate) fn sample(&mut self, count: usize, end: usize) -> Vec<u32> {
        let mut chosen = Vec::with_capacity(count.min(end));
        for (number, left) in (0..).zip((1..=end).rev()) {
            if self.below(left) < count.saturating_sub(chosen.len()) {
                chosen.push(number);
            }
        }
        chosen
    }
}

#[expect(clippy::cast_possible_truncation, reason = "small numbers; only precision is lost")]
fn narrow(wide: f64) -> f32 {
    wide as f32
}

/// Zipf's law: rank r, from 0, is drawn in proportion to 1 / (r + 1)^skew.
#[derive(Debug)]
pub(crate) struct Zipf {
    /// The probability of each rank or a smaller one.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Over `ranks` ranks, at least one; skew 0 draws all alike.
    pub(crate) fn new(ranks: usize, skew: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank: usize| 1.0 / (rank as f64 + 1.0).powf(skew);
        let mut cumulative: Vec<f64> = (0..ranks)
            .map(|rank| {
                sum += weight(rank);
                sum
            })
            .collect();
        for up_to in &mut cumulative {
            *up_to /= sum;
        }
        Self { cumulative }
    }

    /// A rank.
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        let at = random.unit();
        let rank = self.cumulative.partition_point(|up_to| *up_to <= at);
        rank.min(self.cumulative.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..4).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn normal_numbers_have_the_right_mean_and_deviation() {
        let mut random = Random::new(3);
        let drawn: Vec<f64> = (0..20_000).map(|_| f64::from(random.normal())).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn a_sample_has_the_asked_size_and_is_spread_evenly() {
        let mut random = Random::new(1);
        let sample = random.sample(1_000, 10_000);
        assert_eq!(sample.len(), 1_000);
        assert!(sample.is_sorted_by(|a, b| a < b) && *sample.last().unwrap() < 10_000);
        let low = sample.iter().filter(|slot| **slot < 5_000).count();
        assert!((400..600).contains(&low), "{low}");
        assert_eq!(random.sample(9, 4), vec![0, 1, 2, 3]);
        assert_eq!(random.sample(0, 4), Vec::<u32>::new());
    }

    #[test]
    fn a_shuffled_list_has_the_same_items_in_another_order() {
        let mut list: Vec<u32> = (0..50).collect();
        Random::new(1).shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort_unstable();
        assert_eq!(list, (0..50).collect::<Vec<_>>());
        Random::new(1).shuffle(&mut [0_u8; 0]);
    }

    #[test]
    fn ranks_are_drawn_by_zipfs_law() {
        let zipf = Zipf::new(100, 1.0);
        let mut random = Random::new(5);
        let mut counts = [0_u32; 100];
        (0..200_000).for_each(|_| counts[zipf.draw(&mut random)] += 1);
        let ratio = f64::from(counts[0]) / f64::from(counts[9]);
        assert!((ratio - 10.0).abs() < 0.8, "{ratio}");
        assert!(counts.iter().all(|count| *count > 0));
    }

    #[test]
    fn without_skew_all_ranks_are_alike() {
        let zipf = Zipf::new(4, 0.0);
        let mut random = Random::new(5);
        let mut counts = [0_u32; 4];
        (0..40_000).for_each(|_| counts[zipf.draw(&mut random)] += 1);
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(Zipf::new(1, 1.0).draw(&mut random), 0);
    }
}
