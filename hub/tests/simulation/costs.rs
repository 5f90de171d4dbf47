//! What repairs cost over the number of nodes, beside what they must: the figures, and their picture.

use super::bound;
use super::network::{Loss, Setting, Shares, transfer};
use super::plot::{Curve, plot};

/// Numbers of nodes.
pub(crate) const SIZES: [usize; 5] = [1, 4, 16, 64, 256];
/// Shares that each leg loses.
pub(crate) const LOSSES: [f64; 3] = [0.01, 0.05, 0.10];
/// Source segments in a block.
pub(crate) const BLOCK: u32 = 64;

/// Sites of all sizes whose legs lose the same share.
pub(crate) struct Costs {
    pub(crate) loss: f64,
    pub(crate) random: [Shares; SIZES.len()],
    pub(crate) bursts: [Shares; SIZES.len()],
}

impl Costs {
    /// Sends so many segments to each site, twice: with losses one by one, and in bursts.
    pub(crate) fn simulate(loss: f64, segments: u64) -> Costs {
        let run = |loss| SIZES.map(|nodes| transfer(&Setting { segments, ..Setting::new(nodes, loss) }).1);
        Costs { loss, random: run(Loss::Random(loss)), bursts: run(Loss::Bursts(loss)) }
    }

    fn panel(&self) -> (String, Vec<Curve>) {
        let of = |shares: &[Shares], value: fn(&Shares) -> f64| {
            SIZES.into_iter().zip(shares.iter().map(value)).collect()
        };
        let by = |value: &dyn Fn(usize) -> f64| SIZES.map(|nodes| (nodes, value(nodes))).to_vec();
        let curve = |name, colour, dashed, points| Curve { name, colour, dashed, points };
        let (green, blue, red, violet) = ("#1a7f37", "#0550ae", "#a40e26", "#8250df");
        let curves = vec![
            curve("leg, ours", green, false, of(&self.random, |shares| shares.leg)),
            curve("leg, at least p/(1-p)", green, true, by(&|_| bound::leg(self.loss))),
            curve("trunk, ours", blue, false, of(&self.random, |shares| shares.trunk)),
            curve(
                "trunk, coded, at least (k = 64): also each leg of NORM",
                blue,
                true,
                by(&|nodes| bound::trunk_coded(nodes, self.loss, BLOCK)),
            ),
            curve(
                "trunk and each leg, segments sent again to all (UFTP)",
                red,
                true,
                by(&|nodes| bound::trunk_exact(nodes, self.loss)),
            ),
            curve("trunk, ours, bursts", violet, false, of(&self.bursts, |shares| shares.trunk)),
            curve("leg, ours, bursts", violet, true, of(&self.bursts, |shares| shares.leg)),
        ];
        (format!("{} % lost: repairs per segment, over nodes", self.loss * 100.0), curves)
    }
}

/// The picture, a panel for each.
pub(crate) fn svg(costs: &[Costs]) -> String {
    plot(&costs.iter().map(Costs::panel).collect::<Vec<_>>())
}
