//! How the forward pass is cut into tasks.

use super::{Chunks, Grid, Order};
use crate::conv::desc::ConvDesc;
use crate::micro::PANEL;
use crate::threads;

/// Tiles of a task: few where the transformed weights stay in the core's cache too, many where they are streamed.
const FEW_TILES: usize = 28;
const MANY_TILES: usize = 112;
/// Tasks wanted at least, whatever the number of threads, for blocks of tiles decide in which order statistics are summed.
const TASKS: usize = 6;
/// Tasks from which on more are not worth reading the weights again.
const FEW_TASKS: usize = 4;
/// Panels of output channels whose products are held at a time.
pub(super) const OUT_PANELS: usize = 8;

/// Whether the transformed weights stay in the core's cache beside the tiles.
pub(super) fn are_weights_near(in_blocks: usize, out_blocks: usize) -> bool {
    in_blocks * out_blocks <= 16
}

/// Tiles and output panels of one task.
pub(super) struct Cut {
    pub tiles: usize,
    pub panels: usize,
}

impl Cut {
    /// Follows from the shape, but for the panels, of which there are enough for all threads.
    pub fn new(desc: &ConvDesc, order: Order) -> Cut {
        let tiles = Grid::new(desc, order).tiles.max(1);
        let (ins, outs) = (desc.channels.div_ceil(PANEL), desc.filters.div_ceil(PANEL));
        let most = if are_weights_near(ins, outs) { FEW_TILES } else { MANY_TILES };
        let mut cut = Cut { tiles: most.min(tiles), panels: outs };
        let work = (desc.macs() >> 20).max(1);
        let wanted = work.min(TASKS);
        loop {
            let tasks = cut.tasks(tiles, outs);
            if tasks >= wanted {
                break;
            }
            // Each block of tiles reads all weights, each set of panels transforms the inputs again.
            let few = tasks < FEW_TASKS;
            if cut.tiles > 2 * FEW_TILES {
                cut.tiles = cut.tiles.div_ceil(2);
            } else if cut.panels > OUT_PANELS || (few && cut.panels > OUT_PANELS / 2) {
                cut.halve_panels();
            } else if few && cut.tiles > 14 {
                cut.tiles = cut.tiles.div_ceil(2).max(14);
            } else if few && cut.panels > 2 {
                cut.halve_panels();
            } else {
                break;
            }
        }
        // No thread goes without; no sum depends on how panels are cut.
        while cut.tasks(tiles, outs) < threads::count().min(work) && cut.panels > 2 {
            cut.halve_panels();
        }
        cut
    }

    fn tasks(&self, tiles: usize, panels: usize) -> usize {
        tiles.div_ceil(self.tiles) * panels.div_ceil(self.panels)
    }

    fn halve_panels(&mut self) {
        self.panels = self.panels.div_ceil(2).next_multiple_of(2);
    }

    /// Floats of one thread's tiles and products, however panels are cut: what suffices for many threads does for fewer.
    pub fn scratch(&self, desc: &ConvDesc, order: Order) -> usize {
        let panels = desc.channels.div_ceil(PANEL) + desc.filters.div_ceil(PANEL).min(OUT_PANELS);
        Chunks::room(Grid::new(desc, order).points(), self.tiles, panels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_count;

    fn conv(images: usize, channels: usize, size: usize) -> ConvDesc {
        ConvDesc::new(images, channels, channels, [size, size], 3).padding(1)
    }

    #[test]
    fn threads_change_neither_the_tiles_nor_the_scratch_of_one() {
        for desc in [conv(1, 16, 4), conv(1, 512, 7), conv(1, 256, 14), conv(8, 256, 14), conv(16, 64, 56)] {
            let cut = |threads| with_count(threads, || Cut::new(&desc, Order::Four));
            let (one, many) = (cut(1), cut(16));
            assert_eq!(one.tiles, many.tiles, "{desc:?}");
            assert_eq!(one.scratch(&desc, Order::Four), many.scratch(&desc, Order::Four), "{desc:?}");
        }
    }

    #[test]
    fn few_tiles_read_their_weights_once_and_all_threads_have_work() {
        let desc = conv(1, 512, 14);
        let tiles = Grid::new(&desc, Order::Four).tiles;
        for threads in [1, 2, 16] {
            let cut = with_count(threads, || Cut::new(&desc, Order::Four));
            assert_eq!(cut.tiles, tiles);
            assert!(cut.tasks(tiles, desc.filters.div_ceil(PANEL)) >= threads.max(FEW_TASKS));
        }
    }
}
