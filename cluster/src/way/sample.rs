//! Which LACs a node asks the kernel's routes for.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::limits::WAY_LACS_MAX;

/// At most [`WAY_LACS_MAX`] LACs, each with the address of ours that it speaks to. Chosen by a hash of the address, so that all
/// nodes ask for the same ones and these lie in different networks.
#[derive(Clone, Debug, Default)]
pub struct Sample(BTreeMap<IpAddr, IpAddr>);

impl Sample {
    /// The LACs that have established tunnels, each with our address, any number of times. With `keep` nobody new comes in while
    /// one of those chosen is still there.
    pub fn renew(&mut self, tunnels: impl IntoIterator<Item = (IpAddr, IpAddr)>, keep: bool) {
        let mut still = BTreeSet::new();
        let mut chosen = BTreeMap::new();
        for (lac, own) in tunnels {
            if self.0.contains_key(&lac) {
                still.insert(lac);
            }
            let key = (score(lac), lac);
            let is_full = chosen.len() == WAY_LACS_MAX;
            if is_full && chosen.last_key_value().is_some_and(|(last, _)| key > *last) {
                continue;
            }
            chosen.entry(key).or_insert(own);
            if chosen.len() > WAY_LACS_MAX {
                chosen.pop_last();
            }
        }
        if keep && !still.is_empty() {
            self.0.retain(|lac, _| still.contains(lac));
        } else {
            self.0 = chosen.into_iter().map(|((_, lac), own)| (lac, own)).collect();
        }
    }

    /// The LACs, each with our address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        self.0.iter().map(|(lac, own)| (*lac, *own))
    }
}

fn score(lac: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    lac.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn lacs(from: u16, to: u16) -> Vec<(IpAddr, IpAddr)> {
        let lac = |number: u16| IpAddr::from([10, 10, number.to_be_bytes()[0], number.to_be_bytes()[1]]);
        (from..to).map(|number| (lac(number), OWN)).collect()
    }

    fn chosen(sample: &Sample) -> Vec<(IpAddr, IpAddr)> {
        sample.iter().collect()
    }

    #[test]
    fn the_same_few_whatever_the_order_and_however_many_tunnels_each_has() {
        let (mut one, mut other) = (Sample::default(), Sample::default());
        one.renew(lacs(0, 1_000), false);
        other.renew(lacs(0, 1_000).into_iter().rev().chain(lacs(0, 1_000)), false);
        assert_eq!(chosen(&one).len(), WAY_LACS_MAX);
        assert_eq!(chosen(&one), chosen(&other));
    }

    #[test]
    fn in_doubt_nobody_new_comes_in_and_who_is_gone_goes() {
        let mut sample = Sample::default();
        sample.renew(lacs(0, 2), true);
        assert_eq!(chosen(&sample), lacs(0, 2), "nobody was chosen yet");
        sample.renew(lacs(1, 9), true);
        assert_eq!(chosen(&sample), lacs(1, 2));
        sample.renew(lacs(1, 9), false);
        assert_eq!(chosen(&sample), lacs(1, 9));
        sample.renew(lacs(20, 22), true);
        assert_eq!(chosen(&sample), lacs(20, 22), "none of them is left");
        sample.renew([], true);
        assert_eq!(chosen(&sample), []);
    }
}
