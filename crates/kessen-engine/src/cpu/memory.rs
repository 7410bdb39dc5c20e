//! Buffers of a plan, and how a step sees them.
//!
//! A [`Buf`] is a piece of memory with a length; where it lies is decided after all steps are known. It may be a
//! [`Slice`] of another one, a range that others share. A step gets its operands as [`Views`]: what it reads as shared
//! slices, what it writes as exclusive ones. The plan's builder refuses a step that writes a buffer of which it lists
//! the same or another slice once more, so the slices never overlap; this file alone relies on that.

use std::cell::Cell;

use kessen_graph::ParamId;
use kessen_tensor::Buffer;

use crate::{Data, Given};

/// A piece of a plan's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Buf(pub(super) u32);

impl Buf {
    pub fn new(index: usize) -> Self {
        Buf(u32::try_from(index).expect("a plan has fewer than 2³² buffers"))
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Element type of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    I64,
}

/// How long a buffer's content lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// From the step that writes it to the last step that reads it.
    Step,
    /// Until the end of the run.
    Run,
    /// For ever: inputs, constants, what is computed once from them.
    Plan,
    /// For ever: a parameter.
    Param(ParamId),
}

/// Some channels of a blocked buffer: images that lie apart in the whole, with those of others between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The buffer that owns the memory; no slice itself.
    pub whole: Buf,
    /// Where the first image begins in the whole, in elements.
    pub start: usize,
    /// Distance of the images, and the elements of one.
    pub step: usize,
    pub own: usize,
    pub images: usize,
}

/// What is known of a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BufInfo {
    pub kind: Kind,
    /// Number of elements; of a slice from the first to the last.
    pub len: usize,
    /// For a slice, that of the whole counts.
    pub keep: Keep,
    pub slice: Option<Slice>,
}

impl BufInfo {
    /// Memory from the first element to the last.
    pub fn bytes(&self) -> usize {
        self.len * self.element()
    }

    /// Memory of its own elements.
    pub fn own_bytes(&self) -> usize {
        self.slice.map_or(self.len, |s| s.images * s.own) * self.element()
    }

    fn element(&self) -> usize {
        if self.kind == Kind::F32 { 4 } else { 8 }
    }
}

/// The buffer that owns the memory of `buf`.
pub(crate) fn whole(infos: &[BufInfo], buf: Buf) -> Buf {
    infos[buf.index()].slice.map_or(buf, |slice| slice.whole)
}

/// Address and length of a placed buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    address: *mut u8,
    len: usize,
}

/// The memory of one executable: what lasts, and the arena that is shared by what does not.
pub(crate) struct Memory {
    // Owned here so that the addresses in `placed` stay valid; only reached through them.
    _lasting: Buffer,
    _arena: Buffer,
    pub placed: Vec<Placed>,
}

// SAFETY: the addresses point into the buffers owned by the same value, which may move between threads.
unsafe impl Send for Memory {}

impl Memory {
    /// Memory of `arena` bytes shared, and what lasts after it; `offset[i]` is where buffer `i` lies in its region,
    /// unless it is a slice.
    pub fn new(infos: &[BufInfo], offsets: &[usize], lasting: usize, arena: usize) -> Self {
        let (mut lasting, mut arena) = (Buffer::zeroed(lasting), Buffer::zeroed(arena));
        let placed = infos.iter().zip(offsets).map(|(info, &offset)| {
            let (offset, keep) = match info.slice {
                None => (offset, info.keep),
                Some(Slice { whole, start, .. }) => {
                    let owner = &infos[whole.index()];
                    assert!(
                        start + info.len <= owner.len && info.kind == owner.kind,
                        "a slice leaves its buffer"
                    );
                    (offsets[whole.index()] + start * info.element(), owner.keep)
                }
            };
            let region = if lasts(keep) { lasting.bytes_mut() } else { arena.bytes_mut() };
            Placed { address: region[offset..offset + info.bytes()].as_mut_ptr(), len: info.len }
        });
        let placed = placed.collect();
        Self { _lasting: lasting, _arena: arena, placed }
    }

    /// A buffer of f32, to read between runs.
    pub fn f32(&self, buf: Buf) -> &[f32] {
        // SAFETY: between runs `&self` and `&mut self` alone reach the memory; see `Views` for the length.
        unsafe { self.placed[buf.index()].slice() }
    }

    /// A buffer of f32, to write between runs.
    pub fn f32_mut(&mut self, buf: Buf) -> &mut [f32] {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.placed[buf.index()].slice_mut() }
    }

    /// A buffer of i64, to read between runs.
    pub fn i64(&self, buf: Buf) -> &[i64] {
        // SAFETY: as for `f32`.
        unsafe { self.placed[buf.index()].slice() }
    }

    /// A buffer of i64, to write between runs.
    pub fn i64_mut(&mut self, buf: Buf) -> &mut [i64] {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.placed[buf.index()].slice_mut() }
    }
}

/// Whether a buffer lies outside the shared arena.
pub(crate) fn lasts(keep: Keep) -> bool {
    matches!(keep, Keep::Plan | Keep::Param(_))
}

impl Placed {
    /// # Safety
    /// The buffer holds elements of `T`, and nothing writes to it for the lifetime.
    unsafe fn slice<'a, T: bytemuck::Pod>(self) -> &'a [T] {
        // SAFETY: `len` elements lie at the address, aligned to a cache line; the caller guards the rest.
        unsafe { std::slice::from_raw_parts(self.address.cast(), self.len) }
    }

    /// # Safety
    /// The buffer holds elements of `T`, and nothing else reaches it for the lifetime.
    unsafe fn slice_mut<'a, T: bytemuck::Pod>(self) -> &'a mut [T] {
        // SAFETY: as for `slice`.
        unsafe { std::slice::from_raw_parts_mut(self.address.cast(), self.len) }
    }
}

/// Inputs that a run reads in its caller's memory. Each has its buffer's length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lent<'a> {
    /// The buffers of the plan's inputs.
    pub inputs: &'a [Buf],
    pub given: &'a [Given<'a>],
}

impl<'a> Lent<'a> {
    /// What is read in place of a buffer of f32.
    pub fn f32(&self, buf: Buf) -> Option<&'a [f32]> {
        match self.find(buf)? {
            Data::F32(data) => Some(data),
            _ => None,
        }
    }

    /// What is read in place of a buffer of i64.
    pub fn i64(&self, buf: Buf) -> Option<&'a [i64]> {
        match self.find(buf)? {
            Data::I64(data) => Some(data),
            _ => None,
        }
    }

    fn find(&self, buf: Buf) -> Option<Data<'a>> {
        self.given.iter().rfind(|(input, _)| self.inputs[*input] == buf).map(|(_, data)| *data)
    }
}

/// The buffers that one step reads and writes, by their position in its lists.
pub(crate) struct Views<'m> {
    pub(super) lent: Lent<'m>,
    pub(super) placed: &'m [Placed],
    pub(super) infos: &'m [BufInfo],
    pub(super) reads: &'m [Buf],
    pub(super) writes: &'m [Buf],
    pub(super) taken: &'m [Cell<bool>],
}

impl<'m> Views<'m> {
    /// What the step reads at position `k`.
    pub fn read(&self, k: usize) -> &'m [f32] {
        if let Some(data) = self.lent.f32(self.reads[k]) {
            return data;
        }
        let buf = self.checked(self.reads[k], Kind::F32);
        // SAFETY: the kind was checked; no step lists a buffer, or slices of one, both as read and as written
        // (checked when the plan is built), and steps run one after another.
        unsafe { buf.slice() }
    }

    /// What the step reads at position `k`, where there are so many.
    pub fn maybe_read(&self, k: usize) -> Option<&'m [f32]> {
        (k < self.reads.len()).then(|| self.read(k))
    }

    /// Labels or ids that the step reads at position `k`.
    pub fn read_ids(&self, k: usize) -> &'m [i64] {
        if let Some(data) = self.lent.i64(self.reads[k]) {
            return data;
        }
        let buf = self.checked(self.reads[k], Kind::I64);
        // SAFETY: as for `read`.
        unsafe { buf.slice() }
    }

    /// What the step writes at position `k`. Each may be taken once a run.
    pub fn write(&self, k: usize) -> &'m mut [f32] {
        let buf = self.checked(self.take(k), Kind::F32);
        // SAFETY: the kind was checked; the plan lists no buffer that is written, nor slices of one, twice in a step,
        // and `take` hands each out once.
        unsafe { buf.slice_mut() }
    }

    /// Ids that the step writes at position `k`. Each may be taken once a run.
    pub fn write_ids(&self, k: usize) -> &'m mut [i64] {
        let buf = self.checked(self.take(k), Kind::I64);
        // SAFETY: as for `write`.
        unsafe { buf.slice_mut() }
    }

    fn take(&self, k: usize) -> Buf {
        assert!(!self.taken[k].replace(true), "a step took operand {k} twice");
        self.writes[k]
    }

    fn checked(&self, buf: Buf, kind: Kind) -> Placed {
        assert_eq!(self.infos[buf.index()].kind, kind, "a step took an operand as another type");
        self.placed[buf.index()]
    }
}
