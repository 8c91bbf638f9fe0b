//! Synthetic vectors by a seed.

pub(crate) mod random;

use random::gaussian;

/// One cluster per hundred vectors, within which cosines are about one half.
pub(crate) fn clusters(n: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 7;
    let mut gaussians = |count| -> Vec<f32> { (0..count).map(|_| gaussian(&mut state)).collect() };
    let centres: Vec<_> = (0..n.div_ceil(100)).map(|_| gaussians(dimension)).collect();
    let around = |i: usize| {
        // Scattered, so that rows taken at even steps are not whole clusters.
        let centre = &centres[i.wrapping_mul(0x9e37_79b9) / 65_536 % centres.len()];
        let vector: Vec<f32> =
            gaussians(dimension).iter().zip(centre).map(|(x, centre)| x + centre).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    };
    (0..n).map(around).collect()
}
