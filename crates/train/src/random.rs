//! Random numbers that are a function of what they are for, so that nothing of them has to be kept in a checkpoint.

/// SplitMix64 ([Steele et al. 2014](https://doi.org/10.1145/2660193.2660195)): a 64-bit counter, mixed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of one purpose: `key` names it (a seed, an epoch, ...), and any other key gives other numbers.
    pub fn new(key: &[u64]) -> Random {
        Random(
            key.iter()
                .fold(0, |state, &part| mix(state.wrapping_add(GOLDEN) ^ mix(part.wrapping_add(GOLDEN)))),
        )
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A whole number below `end`, which is at least 1; each as likely as the others to 2^-64 of it.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.bits()) * end as u128) >> 64) as usize
    }

    /// Brings `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers() {
        // The first outputs of SplitMix64 from state 0.
        let mut random = Random(0);
        assert_eq!([random.bits(), random.bits()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        assert_ne!(Random::new(&[1, 2]).bits(), Random::new(&[2, 1]).bits());
    }

    #[test]
    fn a_shuffle_keeps_everything_and_is_even() {
        let mut counts = [[0u32; 4]; 4];
        for key in 0..4000 {
            let mut items = [0, 1, 2, 3];
            Random::new(&[key]).shuffle(&mut items);
            for (place, &item) in items.iter().enumerate() {
                counts[place][item] += 1;
            }
        }
        assert!(counts.iter().flatten().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
