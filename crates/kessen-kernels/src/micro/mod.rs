//! The micro-kernel family everything dense is built from:
//!
//! ```text
//! C[mr × 16·nv] = epilogue( Σ_j A_j[mr × depth] · B_j[depth × 16·nv] )
//! ```
//!
//! `A` is read as broadcast scalars, `B` as rows of 16 floats ("panels"), and the sum over `j` is a nest of three
//! loops with a step in `A` and in `B` each. That one shape serves matrix products (one `j`), convolution (`j` runs
//! over channel block × kernel row × kernel column, `A`'s rows are pixels anywhere in memory), gradients to weights
//! (`j` runs over image rows, `depth` over pixels) and Winograd's batched products. Rows of `A` that fall into a
//! convolution's zero padding are read from a row of zeros.
//!
//! A second set of kernels, [`Family::pairs`], takes each element of `A` and `B` as a *word* of two bf16 (the lower half
//! comes first in the sum) and adds both products: `depth` and all distances count words then. Drivers need not know.
//!
//! A plain product (one `j`) has a loop of its own, which asks for the rows of `C` one by one along the sum.
//! Rejected: one loop for both (a test at each product costs convolutions some percent, see `docs/performance.md`).
//! Sums of short runs have kernels that take their terms from a list, [`Listed`], and [`lanewise`] ones multiply lane by lane.
//! Tiles of neighbouring pixels have kernels of their own too, [`Family::pixels`]: their rows are all found from one register, so
//! that nothing of the nest lies on the stack. Where only channels are summed over, one call goes through a run of tiles,
//! [`Family::pixel_run`]. Rejected: runs for all nests (a nest costs short sums 10 to 20 %, and long ones gain nothing).
//!
//! The body is written once, as a macro over vector primitives ([`body`]), and compiled for every instruction set.
//! Rejected: one kernel per operator (each would need its own tails, epilogue and tests), and run-time code
//! generation (needs writable executable memory and cannot be read).

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod body;
mod lanes;
mod listed;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod pairs;
mod pixels;
pub(crate) mod scalar;

use crate::epilogue::Activation;
use crate::isa::Isa;
use crate::split::share;
pub(crate) use lanes::{Lanewise, lanewise};
pub(crate) use listed::{List, Listed, Term};
pub(crate) use pixels::{PixelRun, Pixels};

/// The static of this name that belongs to the active instruction set.
macro_rules! by_isa {
    ($kernels:ident) => {
        match crate::isa::Isa::active() {
            #[cfg(target_arch = "x86_64")]
            crate::isa::Isa::Avx512 => &crate::micro::avx512::$kernels,
            #[cfg(target_arch = "x86_64")]
            crate::isa::Isa::Avx2 => &crate::micro::avx2::$kernels,
            #[cfg(target_arch = "aarch64")]
            crate::isa::Isa::Neon => &crate::micro::neon::$kernels,
            _ => &crate::micro::scalar::$kernels,
        }
    };
}
use by_isa;

/// Width of a panel: the number of columns of `B` and `C` that lie together, on every instruction set.
pub const PANEL: usize = 16;
/// Largest number of rows of any kernel.
pub const MAX_ROWS: usize = 16;

/// One loop of the nest over `j`: how often, and the step per turn in `A` and `B` (elements).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loop {
    pub count: usize,
    pub a: isize,
    pub b: isize,
}

impl Loop {
    /// A loop that runs once.
    pub const ONCE: Loop = Loop { count: 1, a: 0, b: 0 };
}

/// What is summed; shared by all tiles of one product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum {
    /// Outermost first.
    pub loops: [Loop; 3],
    /// Products per innermost turn.
    pub depth: usize,
    /// The same during the outermost loop's last turn (a channel block that is not full).
    pub depth_last: usize,
    /// Step of `A` from one product to the next; 1 where tiles are clipped.
    pub a_col: isize,
    /// Step of `B` from one product to the next.
    pub b_row: isize,
    /// Step of `B` from one panel to the next.
    pub b_panel: isize,
    /// Distance of the rows of `A` that the next tile reads, where it pays to ask for them; else 0.
    pub ahead: isize,
    /// The image that clipped tiles read.
    pub clip: Clip,
    /// The terms, for [`Listed`] kernels.
    pub list: List,
}

impl Sum {
    /// A plain product of `depth` terms.
    pub fn product(depth: usize, a_col: isize, b_row: isize, b_panel: isize) -> Sum {
        let loops = [Loop::ONCE; 3];
        let (ahead, clip, list) = (0, Clip::default(), List::NONE);
        Sum { loops, depth, depth_last: depth, a_col, b_row, b_panel, ahead, clip, list }
    }

    /// How often the innermost loop runs in all.
    #[inline]
    fn turns(&self) -> usize {
        self.loops.iter().map(|l| l.count).product()
    }

    /// Whether terms follow each other in `A` and rows in a panel of `B`.
    #[inline]
    fn is_dense(&self) -> bool {
        self.a_col == 1 && self.b_row == PANEL as isize
    }

    /// Whether nothing is looped over but the depth.
    #[inline]
    fn is_plain(&self) -> bool {
        self.loops.iter().all(|l| l.count == 1) && self.ahead == 0
    }
}

/// Bounds of the image for clipped tiles, and the step in it per turn of the second and third loop. At most
/// [`PANEL`] products per innermost turn are allowed when clipping.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clip {
    pub height: i32,
    pub width: i32,
    pub step_h: i32,
    pub step_w: i32,
}

/// Where each of a tile's rows lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Offset of each row in `A`.
    pub a: [isize; MAX_ROWS],
    /// Offset of each row in `C` and in the residual.
    pub c: [isize; MAX_ROWS],
    /// Image row and column that each row starts from; looked at where `clipped`.
    pub h: [i32; MAX_ROWS],
    pub w: [i32; MAX_ROWS],
    /// Whether some row may leave the image.
    pub clipped: bool,
}

impl Rows {
    /// Rows at constant distances in `A` and `C`.
    pub fn strided(a_row: isize, c_row: isize) -> Rows {
        let along = |step: isize| std::array::from_fn(|i| i as isize * step);
        Rows { a: along(a_row), c: along(c_row), h: [0; MAX_ROWS], w: [0; MAX_ROWS], clipped: false }
    }
}

/// One tile: operands at its first row and column, and what happens to the sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub a: *const f32,
    pub b: *const f32,
    pub c: *mut f32,
    /// Step of `C` and the residual from one panel to the next.
    pub c_panel: isize,
    /// Valid columns of the last panel, `1..=PANEL`.
    pub tail: usize,
    pub soon: Soon,
    pub finish: Finish,
}

impl Tile {
    /// The tile that lies so far behind it in `A` and in `C`.
    #[inline]
    pub fn moved(self, a: isize, c: isize) -> Tile {
        let finish = self.finish.at(0, 0, c);
        Tile { a: self.a.wrapping_offset(a), c: self.c.wrapping_offset(c), finish, ..self }
    }
}

/// Rows, runs of them, or tiles at constant distances: how many, and how far they lie from each other in `A` and in `C`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub count: usize,
    pub a: isize,
    pub c: isize,
}

impl Run {
    /// A single one.
    pub const ONCE: Run = Run { count: 1, a: 0, c: 0 };
}

/// What a tile asks for while it is computed, so that memory brings what later tiles read. Need not be readable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Soon {
    /// Lines, one per product: line `k` lies at `from + (k % 16)·line + (k / 16)·block`.
    pub from: *const f32,
    pub line: isize,
    pub block: isize,
    /// Number of lines, for each turn of the loops, up to what a kernel adds at a time; `from` moves like `A` does.
    pub lines: usize,
    /// The distance of another `B` from the tile's own, which [`Family::asking`] kernels ask for; 0 for none.
    pub b: isize,
    /// How many tiles share asking for it, and the tile's number among them: each takes every so many turns' part.
    pub tiles: usize,
    pub tile: usize,
}

impl Soon {
    /// Nothing is asked for.
    pub const NONE: Soon =
        Soon { from: std::ptr::null(), line: 0, block: 0, lines: 0, b: 0, tiles: 1, tile: 0 };

    /// Where line `k` lies.
    #[inline]
    fn line_at(&self, k: usize) -> *const f32 {
        let (block, line) = ((k / PANEL) as isize, (k % PANEL) as isize);
        self.from.wrapping_offset(block * self.block + line * self.line)
    }

    /// Where the line lies that is `count` behind line `k`, which is at `line`; `count` divides 16 and `k`.
    #[inline]
    fn line_behind(&self, line: *const f32, k: usize, count: usize) -> *const f32 {
        let next = line.wrapping_offset(count as isize * self.line);
        match (k + count) % PANEL {
            0 => next.wrapping_offset(self.block - PANEL as isize * self.line),
            _ => next,
        }
    }

    /// Lines at one distance.
    pub fn strided(from: *const f32, step: isize, lines: usize) -> Soon {
        Soon { from, line: step, block: step * PANEL as isize, lines, ..Soon::NONE }
    }

    /// The same lines for so many tiles, evenly: memory brings a few lines behind each tile, but many at once hold tiles up.
    pub fn spread(asked: impl Iterator<Item = Soon> + Clone, tiles: usize) -> impl Iterator<Item = Soon> {
        let parts = (tiles / asked.clone().count().max(1)).max(1);
        asked.flat_map(move |soon| {
            (0..parts).map(move |part| {
                let lines = share(soon.lines, parts, part);
                Soon { from: soon.line_at(lines.start), lines: lines.len(), ..soon }
            })
        })
    }
}

/// The epilogue at one tile: `activation(alpha·sum + bias + residual + C)`; null pointers stand for absent terms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    pub alpha: f32,
    /// Adds what `C` holds.
    pub accumulate: bool,
    /// One per column, at the tile's first column.
    pub bias_column: *const f32,
    /// One per row, at the tile's first row.
    pub bias_row: *const f32,
    /// Laid out as `C`, at the tile's first row and column.
    pub residual: *const f32,
    pub activation: Activation,
}

impl Finish {
    /// Stores the sum as it is, or adds it to what is there.
    pub const fn plain(accumulate: bool) -> Finish {
        Finish {
            alpha: 1.0,
            accumulate,
            bias_column: std::ptr::null(),
            bias_row: std::ptr::null(),
            residual: std::ptr::null(),
            activation: Activation::Identity,
        }
    }

    /// Whether nothing happens to the sum but what kernels do in registers: no bias per row, at most bounds.
    #[inline]
    fn is_simple(&self) -> bool {
        self.bias_row.is_null() && !matches!(self.activation, Activation::LeakyRelu(_))
    }
}

/// How a kernel reads `A`: scalars at `Rows::a`, scalars that are neighbours, or vectors at `Rows::a`.
const ROWS: u8 = 0;
const UNIT: u8 = 1;
const LANEWISE: u8 = 2;
const PIXELS: u8 = 3;

/// A compiled kernel.
///
/// # Safety
/// The CPU has the kernel's instruction set; every address that follows from the arguments lies in memory that may be
/// read (`A`, `B`, bias, residual) or written (`C`), and nobody else writes it meanwhile.
pub(crate) type Kernel = unsafe fn(&Sum, &Rows, &Tile);

/// The kernels of one instruction set.
pub(crate) struct Family {
    /// Kernels by panels (1, 2, 4) and rows; `rows[v][r - 1]`.
    one: &'static [Kernel],
    two: &'static [Kernel],
    four: &'static [Kernel],
    /// The same for tiles of neighbouring pixels.
    pixels_one: &'static [Pixels],
    pixels_two: &'static [Pixels],
    /// The same for tiles one behind the other.
    runs_one: &'static [PixelRun],
    runs_two: &'static [PixelRun],
    /// The same, and they ask for [`Soon::b`], which costs small tiles some percent.
    asking_one: &'static [PixelRun],
    asking_two: &'static [PixelRun],
    /// Distance of a blocked image's pixels.
    pub pixel: usize,
    /// The same for rows of `A` that are neighbours (`a[i] = i`).
    unit_one: &'static [Kernel],
    unit_two: &'static [Kernel],
    /// Four dot products with one vector.
    pub dots: Dots,
}

/// Dot products of four rows of `k` floats each with `x`.
///
/// # Safety
/// The CPU has the kernel's instruction set; `k` floats are readable at each row and at `x`.
pub(crate) type Dots = unsafe fn(rows: [*const f32; 4], x: *const f32, k: usize) -> [f32; 4];

impl Family {
    /// The kernels of the active instruction set.
    pub fn active() -> &'static Family {
        by_isa!(FAMILY)
    }

    /// The kernels on words of two bf16: with the CPU's dot product where `native`, else widened to f32.
    pub fn pairs(native: bool) -> &'static Family {
        match (Isa::active(), native) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, true) => &pairs::avx512bf16::FAMILY,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, false) => &pairs::avx512::FAMILY,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, _) => &pairs::avx2::FAMILY,
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, _) => &pairs::neon::FAMILY,
            _ => &pairs::scalar::FAMILY,
        }
    }

    /// Panels per tile (1, 2 or 4) that use the registers best for a product of `rows` rows.
    pub fn panels_for(&self, rows: usize) -> usize {
        if rows <= self.four.len() {
            4
        } else if rows <= self.two.len() || self.two.len() >= 8 {
            2
        } else {
            1
        }
    }

    /// The panels of the next tile, of at most `wide` (1, 2 or 4), where `left` are left: 0 where none is.
    pub fn fitting(wide: usize, left: usize) -> usize {
        match wide.min(left) {
            3 => 2,
            panels => panels,
        }
    }

    /// Most rows of a kernel with `panels` panels that is worth using for large products.
    pub fn rows(&self, panels: usize) -> usize {
        match panels {
            1 => self.one.len(),
            2 => self.two.len(),
            _ => self.four.len(),
        }
    }

    /// Most rows of a tile in a product of `rows` rows.
    pub fn tall(&self, rows: usize) -> usize {
        self.rows(self.panels_for(rows))
    }

    /// Most neighbouring rows (`a[i] = i`) of a kernel with one panel.
    pub fn unit_rows(&self) -> usize {
        self.unit_one.len()
    }

    /// The kernel for `rows` rows and `panels` panels; `unit` promises that `Rows::a[i] = i` and no clipping.
    pub fn kernel(&self, rows: usize, panels: usize, unit: bool) -> Kernel {
        let (list, unit_list) = match panels {
            1 => (self.one, self.unit_one),
            2 => (self.two, self.unit_two),
            _ => (self.four, [].as_slice()),
        };
        let list = if unit && rows <= unit_list.len() { unit_list } else { list };
        list[rows - 1]
    }
}

/// Source of rows that lie in the zero padding.
#[repr(align(64))]
struct Zeros([f32; PANEL]);
static ZEROS: Zeros = Zeros([0.0; PANEL]);

#[cfg(test)]
mod tests;
