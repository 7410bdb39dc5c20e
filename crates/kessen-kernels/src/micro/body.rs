//! The kernels' body, written once over vector primitives.

/// Expands to the kernels of one instruction set. The calling module defines `V` (vector type), `LANES`, and the
/// primitives `zero, splat, load, store, load_part, store_part, fma, add, mul, max, min, prefetch, prefetch_far,
/// prefetch_write`, each with the feature given.
/// `product` names the primitive `(a, b, sum) → sum` that multiplies: `fma`, or one that takes lanes as pairs of bf16. A turn of
/// the innermost loop adds `terms` products: small tiles need that, since the loop's own instructions are many beside theirs.
macro_rules! micro_kernels {
    ($(#[$feature:meta])?; product: $mac:ident, words: $words:literal, terms: $terms:literal, one: [$($one:literal)*], two: [$($two:literal)*], four: [$($four:literal)*],
     unit_one: [$($unit_one:literal)*], unit_two: [$($unit_two:literal)*]) => {
        use crate::epilogue::Activation;
        use crate::micro::{Family, LANEWISE, PANEL, PIXELS, ROWS, Rows, Run, Soon, Sum, Tile, UNIT, ZEROS};

        /// Registers per panel.
        const PV: usize = PANEL / LANES;

        /// The kernels of this instruction set.
        pub(in crate::micro) static FAMILY: Family = Family {
            one: &[$(tile::<$one, { PV }, ROWS>),*],
            two: &[$(tile::<$two, { 2 * PV }, ROWS>),*],
            four: &[$(tile::<$four, { 4 * PV }, ROWS>),*],
            pixels_one: &[$(pixel_tile::<$one, { PV }>),*],
            pixels_two: &[$(pixel_tile::<$two, { 2 * PV }>),*],
            runs_one: &[$(pixel_run::<$one, { PV }, false>),*],
            runs_two: &[$(pixel_run::<$two, { 2 * PV }, false>),*],
            asking_one: &[$(pixel_run::<$one, { PV }, true>),*],
            asking_two: &[$(pixel_run::<$two, { 2 * PV }, true>),*],
            pixel: PIXEL,
            unit_one: &[$(tile::<$unit_one, { PV }, UNIT>),*],
            unit_two: &[$(tile::<$unit_two, { 2 * PV }, UNIT>),*],
            dots,
        };

        crate::micro::pixels::pixel_kernels!($(#[$feature])?);

        /// Distance of neighbouring pixels of a blocked image.
        const PIXEL: usize = PANEL / $words;

        /// Products added per turn of the innermost loop.
        const TERMS: usize = $terms;

        /// Offset of register `r` of a row whose panels lie `panel` apart.
        #[inline]
        fn place(r: usize, panel: isize) -> isize {
            (r * LANES / PANEL) as isize * panel + (r * LANES % PANEL) as isize
        }

        /// Valid lanes of register `r` of `registers` in a row whose last panel has `tail` valid columns.
        #[inline]
        fn valid(r: usize, registers: usize, tail: usize) -> usize {
            let columns = (registers * LANES / PANEL - 1) * PANEL + tail;
            columns.saturating_sub(r * LANES).min(LANES)
        }

        /// Four dot products with one vector, summed in `LANES` interleaved parts.
        ///
        /// # Safety
        /// See [`crate::micro::Dots`].
        $(#[$feature])?
        unsafe fn dots(rows: [*const f32; 4], x: *const f32, k: usize) -> [f32; 4] {
            let mut acc = [zero(); 4];
            let whole = k - k % LANES;
            let mut parts = [[0.0f32; LANES]; 4];
            // SAFETY: the caller promises `k` floats each.
            unsafe {
                for at in (0..whole).step_by(LANES) {
                    let xv = load(x.add(at));
                    for r in 0..4 {
                        acc[r] = $mac(load(rows[r].add(at)), xv, acc[r]);
                    }
                }
                let xv = load_part(x.add(whole), k - whole);
                for r in 0..4 {
                    acc[r] = $mac(load_part(rows[r].add(whole), k - whole), xv, acc[r]);
                    store(parts[r].as_mut_ptr(), acc[r]);
                }
            }
            parts.map(|part| part.iter().sum())
        }

        /// Computes one tile of `MR` rows and `R` registers per row. `MODE`: how `A` is read.
        ///
        /// # Safety
        /// See [`super::Kernel`].
        $(#[$feature])?
        unsafe fn tile<const MR: usize, const R: usize, const MODE: u8>(sum: &Sum, rows: &Rows, tile: &Tile) {
            if sum.is_plain() && !rows.clipped {
                // SAFETY: the caller's promise.
                return unsafe { plain_tile::<MR, R, MODE>(sum, rows, tile) };
            }
            let mut acc = [[zero(); R]; MR];
            // The tile's part of `C` is on its way while the sums are made.
            for i in 0..MR {
                for r in (0..R).step_by(PV) {
                    prefetch_write(tile.c.wrapping_offset(rows.c[i] + place(r, tile.c_panel)));
                }
            }
            for_turns!(sum, tile, |m, i, depth, a, b| {
                let mut soon = tile.soon;
                soon.from = soon.from.wrapping_byte_add(a.addr().wrapping_sub(tile.a.addr()));
                let mut p = [a; MR];
                if MODE != UNIT {
                    for r in 0..MR {
                        p[r] = a.wrapping_offset(rows.a[r]);
                    }
                    if rows.clipped {
                        let (dh, dw) = (m as i32 * sum.clip.step_h, i as i32 * sum.clip.step_w);
                        let mut any = false;
                        for r in 0..MR {
                            let inside = ((rows.h[r] + dh) as u32) < sum.clip.height as u32
                                && ((rows.w[r] + dw) as u32) < sum.clip.width as u32;
                            any |= inside;
                            p[r] = if inside { p[r] } else { ZEROS.0.as_ptr() };
                        }
                        if !any {
                            continue;
                        }
                    }
                }
                if sum.ahead != 0 && m == 0 && i == 0 {
                    for r in 0..MR {
                        prefetch(p[r].wrapping_offset(sum.ahead));
                    }
                }
                add_products!(MR, R, MODE, acc, p, b, 0..depth, sum, soon);
            });
            store_sums!(MR, R, acc, |i| rows.c[i], rows, tile);
        }

        /// A tile of one product that nothing loops over. Its rows of `C` are asked for one after the other: all at once would
        /// keep the operands waiting.
        ///
        /// # Safety
        /// See [`super::Kernel`].
        $(#[$feature])?
        #[inline(never)]
        unsafe fn plain_tile<const MR: usize, const R: usize, const MODE: u8>(sum: &Sum, rows: &Rows, tile: &Tile) {
            let mut acc = [[zero(); R]; MR];
            let mut p = [tile.a; MR];
            if MODE != UNIT {
                for r in 0..MR {
                    p[r] = tile.a.wrapping_offset(rows.a[r]);
                }
            }
            let depth = sum.depth_last;
            let each = (depth / MR / TERMS * TERMS).max(TERMS);
            let mut term = 0;
            for row in 0..MR {
                if term >= depth {
                    break;
                }
                ask_for_row::<R>(tile, rows.c[row]);
                let end = if row + 1 == MR { depth } else { (term + each).min(depth) };
                add_products!(MR, R, MODE, acc, p, tile.b, term..end, sum, tile.soon);
                term = end;
            }
            store_sums!(MR, R, acc, |i| rows.c[i], rows, tile);
        }

        /// Asks for a row of `C`, which is at `at`, and of the residual.
        $(#[$feature])?
        #[inline]
        fn ask_for_row<const R: usize>(tile: &Tile, at: isize) {
            for r in (0..R).step_by(PV) {
                let at = at + place(r, tile.c_panel);
                prefetch_write(tile.c.wrapping_offset(at));
                if !tile.finish.residual.is_null() {
                    prefetch(tile.finish.residual.wrapping_offset(at));
                }
            }
        }

        /// Adds one product, `k` behind `p`.
        ///
        /// # Safety
        /// `p[r] + k` (16 floats there where `MODE` is lanewise) and 16·`nv` floats at `b` are readable.
        $(#[$feature])?
        #[inline]
        unsafe fn add_product<const MR: usize, const R: usize, const MODE: u8>(
            mut acc: [[V; R]; MR],
            p: [*const f32; MR],
            b: *const f32,
            k: isize,
            b_panel: isize,
        ) -> [[V; R]; MR] {
            // SAFETY: the caller promises the addresses.
            unsafe {
                let mut bv = [zero(); R];
                for r in 0..R {
                    bv[r] = load(b.offset(place(r, b_panel)));
                }
                for i in 0..MR {
                    if MODE == LANEWISE {
                        for r in 0..R {
                            acc[i][r] = $mac(load(p[i].offset(k).add(r * LANES)), bv[r], acc[i][r]);
                        }
                        continue;
                    }
                    let av = splat(match MODE {
                        UNIT => *p[0].offset(k).add(i),
                        PIXELS => *p[0].offset(k).add(i * PIXEL),
                        _ => *p[i].offset(k),
                    });
                    for r in 0..R {
                        acc[i][r] = $mac(av, bv[r], acc[i][r]);
                    }
                }
            }
            acc
        }

        /// Applies the epilogue and stores the tile, row by row.
        ///
        /// # Safety
        /// See [`super::Kernel`].
        $(#[$feature])?
        #[inline(never)]
        unsafe fn finish<const R: usize>(sums: &[[V; R]], rows: &Rows, tile: &Tile) {
            let f = &tile.finish;
            let mut bias = [zero(); R];
            if !f.bias_column.is_null() {
                for r in 0..R {
                    // SAFETY: one bias per valid column.
                    bias[r] = unsafe { load_lanes(f.bias_column.wrapping_add(r * LANES), valid(r, R, tile.tail)) };
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let mut row = *sums;
                let mut row_bias = zero();
                if !f.bias_row.is_null() {
                    // SAFETY: one bias per row.
                    row_bias = splat(unsafe { *f.bias_row.add(i) });
                }
                for r in 0..R {
                    let (at, lanes) = (rows.c[i] + place(r, tile.c_panel), valid(r, R, tile.tail));
                    if f.alpha != 1.0 {
                        row[r] = mul(splat(f.alpha), row[r]);
                    }
                    if !f.bias_column.is_null() {
                        row[r] = add(row[r], bias[r]);
                    }
                    if !f.bias_row.is_null() {
                        row[r] = add(row[r], row_bias);
                    }
                    // SAFETY: residual and `C` are readable at the tile's valid columns.
                    unsafe {
                        if !f.residual.is_null() {
                            row[r] = add(row[r], load_lanes(f.residual.wrapping_offset(at), lanes));
                        }
                        if f.accumulate {
                            row[r] = add(row[r], load_lanes(tile.c.wrapping_offset(at), lanes));
                        }
                    }
                }
                // Only now, since a row's panels may overlap.
                for r in 0..R {
                    let (at, lanes) = (rows.c[i] + place(r, tile.c_panel), valid(r, R, tile.tail));
                    // SAFETY: `C` is writable at the tile's valid columns.
                    unsafe { store_lanes(tile.c.wrapping_offset(at), activate(f.activation, row[r]), lanes) }
                }
            }
        }

        /// The epilogue's function.
        $(#[$feature])?
        #[inline]
        pub(crate) fn activate(activation: Activation, v: V) -> V {
            match activation {
                Activation::Identity => v,
                Activation::Relu => max(zero(), v),
                Activation::LeakyRelu(slope) => fma(splat(slope), min(zero(), v), max(zero(), v)),
                Activation::Clamp(low, high) => min(splat(high), max(splat(low), v)),
            }
        }

        /// The first `n` lanes, zeros behind; all of them without a mask, which some processors are slow at.
        ///
        /// # Safety
        /// `n` floats at `p` are readable.
        $(#[$feature])?
        #[inline]
        unsafe fn load_lanes(p: *const f32, n: usize) -> V {
            // SAFETY: the caller's promise.
            unsafe { if n == LANES { load(p) } else { load_part(p, n) } }
        }

        /// Stores the first `n` lanes likewise.
        ///
        /// # Safety
        /// `n` floats at `p` are writable.
        $(#[$feature])?
        #[inline]
        unsafe fn store_lanes(p: *mut f32, v: V, n: usize) {
            // SAFETY: the caller's promise.
            unsafe { if n == LANES { store(p, v) } else { store_part(p, v, n) } }
        }
    };
}

/// Expands to all kernels of one instruction set on f32: those of [`micro_kernels`], with listed terms, and lane by lane.
macro_rules! float_kernels {
    ($(#[$feature:meta])?; terms: $terms:literal, one: [$($one:literal)*], two: [$($two:literal)*], four: [$($four:literal)*],
     unit_one: [$($unit_one:literal)*], unit_two: [$($unit_two:literal)*]) => {
        use crate::micro::body::{add_products, for_each, for_turns, store_sums};
        use crate::micro::listed::add_listed;

        crate::micro::body::micro_kernels!(
            $(#[$feature])?; product: fma, words: 1, terms: $terms, one: [$($one)*], two: [$($two)*], four: [$($four)*],
            unit_one: [$($unit_one)*], unit_two: [$($unit_two)*]
        );
        crate::micro::listed::listed_kernels!($(#[$feature])?; one: [$($one)*], two: [$($two)*], four: [$($four)*]);
        crate::micro::lanes::lanewise_kernels!($(#[$feature])?; [$($one)*]);
    };
}

/// Adds a range of terms to a tile's sums. Dense sums have a loop of their own, whose steps are known. A macro, since the sums
/// should stay in their registers.
macro_rules! add_products {
    ($mr:expr, $r:expr, $mode:expr, $acc:ident, $p:expr, $b:expr, $terms:expr, $sum:expr, $soon:expr) => {
        if $mode == PIXELS || (TERMS > 1 && $mode == ROWS && $sum.is_dense()) {
            add_products!($mr, $r, $mode, $acc, $p, $b, $terms, $sum, $soon, 1, PANEL as isize);
        } else if TERMS > 1 && $mode == UNIT && $sum.b_row == PANEL as isize {
            add_products!($mr, $r, $mode, $acc, $p, $b, $terms, $sum, $soon, $sum.a_col, PANEL as isize);
        } else {
            add_products!($mr, $r, $mode, $acc, $p, $b, $terms, $sum, $soon, $sum.a_col, $sum.b_row);
        }
    };
    ($mr:expr, $r:expr, $mode:expr, $acc:ident, $p:expr, $b:expr, $terms:expr, $sum:expr, $soon:expr, $a_col:expr, $b_row:expr) => {
        let (std::ops::Range { start, end }, soon, a_col, b_row) = ($terms, $soon, $a_col, $b_row);
        let (mut term, mut k) = (start, start as isize * a_col);
        let mut b = $b.wrapping_offset(start as isize * b_row);
        let mut line = soon.line_at(start);
        // SAFETY: the caller of the kernel promises the addresses.
        unsafe {
            while term + TERMS <= end {
                if term < soon.lines {
                    for t in 0..TERMS as isize {
                        prefetch_far(line.wrapping_offset(t * soon.line));
                    }
                    line = soon.line_behind(line, term, TERMS);
                }
                for t in 0..TERMS as isize {
                    let (b, k) = (b.wrapping_offset(t * b_row), k + t * a_col);
                    $acc = add_product::<$mr, $r, $mode>($acc, $p, b, k, $sum.b_panel);
                }
                b = b.wrapping_offset(TERMS as isize * b_row);
                k += TERMS as isize * a_col;
                term += TERMS;
            }
            while TERMS > 1 && term < end {
                $acc = add_product::<$mr, $r, $mode>($acc, $p, b, k, $sum.b_panel);
                b = b.wrapping_offset(b_row);
                k += a_col;
                term += 1;
            }
        }
    };
}

/// Adds what belongs to a tile's sums and stores them; row `$i` lies at `$row` in `C`, behind the tile's place for one further
/// along. A macro, since the sums should stay in their registers.
macro_rules! store_sums {
    ($mr:expr, $r:expr, $acc:ident, |$i:ident| $row:expr, $rows:expr, $tile:ident) => {
        store_sums!($mr, $r, $acc, |$i| $row, $rows, $tile, further: 0)
    };
    ($mr:expr, $r:expr, $acc:ident, |$i:ident| $row:expr, $rows:expr, $tile:ident, further: $along:expr) => {
        if $tile.tail == PANEL && $tile.finish.is_simple() {
            // SAFETY: `C` and the residual are readable, `C` is writable at the tile's columns, with one bias for each.
            unsafe {
                if $tile.finish.alpha != 1.0 {
                    let alpha = splat($tile.finish.alpha);
                    for_each!($mr, $r, |$i, r| $acc[$i][r] = mul(alpha, $acc[$i][r]));
                }
                if !$tile.finish.bias_column.is_null() {
                    for r in 0..$r {
                        let bias = load($tile.finish.bias_column.add(r * LANES));
                        for i in 0..$mr {
                            $acc[i][r] = add($acc[i][r], bias);
                        }
                    }
                }
                if !$tile.finish.residual.is_null() {
                    for_each!($mr, $r, |$i, r| $acc[$i][r] =
                        add($acc[$i][r], load($tile.finish.residual.offset($along + $row + place(r, $tile.c_panel)))));
                }
                if $tile.finish.accumulate {
                    for_each!($mr, $r, |$i, r| $acc[$i][r] =
                        add($acc[$i][r], load($tile.c.offset($along + $row + place(r, $tile.c_panel)))));
                }
                match $tile.finish.activation {
                    Activation::Relu => for_each!($mr, $r, |$i, r| $acc[$i][r] = max(zero(), $acc[$i][r])),
                    Activation::Clamp(low, high) => {
                        let (low, high) = (splat(low), splat(high));
                        for_each!($mr, $r, |$i, r| $acc[$i][r] = min(high, max(low, $acc[$i][r])));
                    }
                    _ => {}
                }
                for_each!($mr, $r, |$i, r| store($tile.c.offset($along + $row + place(r, $tile.c_panel)), $acc[$i][r]));
            }
        } else {
            let sums = $acc;
            // SAFETY: the caller promises the addresses.
            unsafe { finish::<$r>(&sums, $rows, &$tile.moved(0, $along)) };
        }
    };
}

/// Runs a block for every turn of a sum's loops: the second and third loop's turns, the turn's products, and where they lie in a
/// tile's `A` and `B`. A macro, since the sums should stay in their registers.
macro_rules! for_turns {
    ($sum:ident, $tile:ident, |$m:ident, $i:ident, $depth:ident, $a:ident, $b:ident| $body:block) => {
        let [outer, middle, inner] = $sum.loops;
        let (mut outer_a, mut outer_b) = ($tile.a, $tile.b);
        for o in 0..outer.count {
            let $depth = if o + 1 == outer.count { $sum.depth_last } else { $sum.depth };
            let (mut middle_a, mut middle_b) = (outer_a, outer_b);
            for $m in 0..middle.count {
                let (mut inner_a, mut inner_b) = (middle_a, middle_b);
                for $i in 0..inner.count {
                    let ($a, $b) = (inner_a, inner_b);
                    // Before the block, which may go on to the next turn.
                    (inner_a, inner_b) = (inner_a.wrapping_offset(inner.a), inner_b.wrapping_offset(inner.b));
                    $body
                }
                (middle_a, middle_b) =
                    (middle_a.wrapping_offset(middle.a), middle_b.wrapping_offset(middle.b));
            }
            (outer_a, outer_b) = (outer_a.wrapping_offset(outer.a), outer_b.wrapping_offset(outer.b));
        }
    };
}

/// Runs a statement for every accumulator.
macro_rules! for_each {
    ($mr:expr, $r:expr, |$i:ident, $j:ident| $body:expr) => {
        for $i in 0..$mr {
            for $j in 0..$r {
                $body;
            }
        }
    };
}

pub(super) use {add_products, float_kernels, for_each, for_turns, micro_kernels, store_sums};
