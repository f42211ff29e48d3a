//! Square blocks of the plane, and folds of them that are held out in turn.

use std::collections::BTreeMap;

use heimdall_geo::LocalPosition;

/// Gives each place the number of its fold: places in one block are in one fold.
///
/// Blocks are squares with sides of `block_km`, from the frame's origin. They are dealt out to the
/// folds one after the other, in an order that mixes neighbors and depends on nothing but the blocks.
pub(super) fn folds(places: &[LocalPosition], block_km: f64, folds: usize) -> Vec<usize> {
    // Whole numbers, as small as the region over a block.
    let block = |place: &LocalPosition| {
        ((place.north_km / block_km).floor() as i64, (place.east_km / block_km).floor() as i64)
    };
    let mut order: Vec<(i64, i64)> = places.iter().map(block).collect();
    order.sort_unstable_by_key(|&block| (mixed(block), block));
    order.dedup();
    let fold_of: BTreeMap<(i64, i64), usize> =
        order.into_iter().enumerate().map(|(index, block)| (block, index % folds)).collect();
    places.iter().map(|place| fold_of[&block(place)]).collect()
}

/// A number that says nothing about where a block is.
///
/// # References
///
/// S. Vigna, `splitmix64`, the finalizer of D. Stafford's variant 13, <https://prng.di.unimi.it>.
fn mixed((north, east): (i64, i64)) -> u64 {
    let mut bits = (north as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (east as u64);
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        bits = (bits ^ (bits >> 30)).wrapping_mul(factor);
    }
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_never_cut_and_folds_are_of_one_size() {
        let places: Vec<LocalPosition> = (0..10_000)
            .map(|index| LocalPosition {
                east_km: f64::from(index % 100) * 0.1 - 5.0,
                north_km: f64::from(index / 100) * 0.1 - 5.0,
            })
            .collect();

        let folds = folds(&places, 1.0, 5);

        // 100 blocks of 100 places each.
        let mut sizes = [0; 5];
        for fold in &folds {
            sizes[*fold] += 1;
        }
        assert_eq!(sizes, [2000; 5]);
        for (place, fold) in places.iter().zip(&folds) {
            let twin = places.iter().zip(&folds).find(|(other, _)| {
                other.east_km.floor().total_cmp(&place.east_km.floor()).is_eq()
                    && other.north_km.floor().total_cmp(&place.north_km.floor()).is_eq()
            });
            assert_eq!(twin.unwrap().1, fold);
        }
        // Neighbors are not in a row of folds.
        assert!((0..10).any(|block| folds[block * 10] != folds[0]), "{:?}", &folds[..100]);
    }
}
