//! Expression programs: a list of operators evaluated on strips of 256 elements, so that what lies between the
//! operands and the outputs never leaves the first-level cache.

use super::broadcast::Broadcast;
use super::op::{Binary, Ternary, Unary, binary_strip, ternary_strip, unary_strip};
use crate::Error;
use crate::isa::Isa;
use crate::threads::{Shared, parallel_chunks};
use std::mem::MaybeUninit;

/// Elements of a strip.
const STRIP: usize = 256;
/// Elements of one task.
const GRAIN: usize = 16 * 1024;
/// Most operands of a program.
pub const MAX_OPERANDS: usize = 16;
/// Most outputs of a program.
pub const MAX_OUTPUTS: usize = 8;
/// Most operands and instructions together.
pub const MAX_VALUES: usize = 64;
/// Most values alive at once (constants and broadcast operands stay alive).
pub const MAX_STRIPS: usize = 24;

/// One step of a program. Numbers name values: operands first, then the results of the instructions in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Instruction {
    /// The same number everywhere.
    Constant(f32),
    /// An operator of one value.
    Unary(Unary, usize),
    /// An operator of two values.
    Binary(Binary, usize, usize),
    /// An operator of three values.
    Ternary(Ternary, usize, usize, usize),
}

impl Instruction {
    /// The values it reads; the second part says how many count.
    fn arguments(self) -> ([usize; 3], usize) {
        match self {
            Instruction::Constant(_) => ([0; 3], 0),
            Instruction::Unary(_, a) => ([a, 0, 0], 1),
            Instruction::Binary(_, a, b) => ([a, b, 0], 2),
            Instruction::Ternary(_, a, b, c) => ([a, b, c], 3),
        }
    }
}

/// Where an operand's elements come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// As many elements as the outputs have.
    Full(&'a [f32]),
    /// The same number everywhere.
    Scalar(f32),
    /// A repeated operand.
    Broadcast(&'a [f32], Broadcast),
    /// What output number `k` held before the call: in-place work.
    Output(usize),
}

/// A checked program with its strips assigned.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    operands: usize,
    instructions: Vec<Instruction>,
    outputs: Vec<usize>,
    /// The strip each value uses where it has no memory of its own.
    strip: Vec<u8>,
    /// The last instruction that reads each value (instructions count from 1; 0: none).
    last_use: Vec<usize>,
}

impl Program {
    /// Checks `instructions` over `operands` operands and assigns strips. `outputs` names the values to be written.
    ///
    /// # Errors
    /// A value is used before it is defined, or one of the limits `MAX_*` is exceeded.
    pub fn new(operands: usize, instructions: &[Instruction], outputs: &[usize]) -> Result<Program, Error> {
        let values = operands + instructions.len();
        let refuse = |reason: String| Err(Error::Descriptor(format!("element-wise program: {reason}")));
        if operands > MAX_OPERANDS || values > MAX_VALUES || outputs.is_empty() || outputs.len() > MAX_OUTPUTS
        {
            return refuse(format!(
                "{operands} operands, {values} values, {} outputs; at most {MAX_OPERANDS}, {MAX_VALUES} and 1 to \
                 {MAX_OUTPUTS} are supported, so split it",
                outputs.len()
            ));
        }
        let mut last_use = vec![0; values];
        for (at, instruction) in instructions.iter().enumerate() {
            let (arguments, count) = instruction.arguments();
            for &a in &arguments[..count] {
                if a >= operands + at {
                    return refuse(format!(
                        "instruction {at} reads value {a}, which is not defined before it"
                    ));
                }
                last_use[a] = at + 1;
            }
        }
        for &o in outputs {
            if o >= values {
                return refuse(format!("output names value {o}, but there are {values}"));
            }
            last_use[o] = instructions.len() + 1;
        }
        let Some(strip) = assign_strips(operands, instructions, &last_use) else {
            return refuse(format!("more than {MAX_STRIPS} values are alive at once, so split it"));
        };
        Ok(Program {
            operands,
            instructions: instructions.to_vec(),
            outputs: outputs.to_vec(),
            strip,
            last_use,
        })
    }

    /// Number of operands.
    pub fn operands(&self) -> usize {
        self.operands
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// Evaluates the program for every element.
    ///
    /// # Panics
    /// If the numbers of operands or outputs are not the program's, if lengths don't fit, or if an output is just
    /// another output's former content.
    pub fn run(&self, operands: &[Source<'_>], outputs: &mut [&mut [f32]]) {
        assert_eq!(operands.len(), self.operands, "element-wise program: number of operands");
        assert_eq!(outputs.len(), self.outputs.len(), "element-wise program: number of outputs");
        let len = outputs[0].len();
        assert!(outputs.iter().all(|y| y.len() == len), "element-wise program: outputs of different lengths");
        for source in operands {
            match *source {
                Source::Full(x) => assert_eq!(x.len(), len, "element-wise program: operand's length"),
                Source::Broadcast(x, b) => {
                    assert_eq!(b.full_len(), len, "element-wise program: broadcast operand's shape");
                    assert!(x.len() >= b.data_len(), "element-wise program: broadcast operand too short");
                }
                Source::Output(k) => assert!(k < outputs.len(), "element-wise program: no output {k}"),
                Source::Scalar(_) => {}
            }
        }
        for (k, &value) in self.outputs.iter().enumerate() {
            if let Some(&Source::Output(j)) = operands.get(value) {
                assert_eq!(
                    j, k,
                    "element-wise program: output {k} copies what output {j} held; use a buffer"
                );
            }
        }
        let direct = std::array::from_fn(|k| k < self.outputs.len() && self.is_direct(k, operands));
        let count = outputs.len();
        let mut iter = outputs.iter_mut();
        let shared: [Option<Shared<'_, f32>>; MAX_OUTPUTS] =
            std::array::from_fn(|_| iter.next().map(|y| Shared::new(y)));
        let isa = Isa::active();
        parallel_chunks(len, GRAIN, |range| {
            let mut y = [std::ptr::null_mut(); MAX_OUTPUTS];
            for (y, shared) in y.iter_mut().zip(shared[..count].iter().flatten()) {
                *y = shared.as_ptr();
            }
            let mut strips = MaybeUninit::<Strips>::uninit();
            let run = Run::new(self, isa, operands, y, direct, &mut strips, range.len().min(STRIP));
            let mut start = range.start;
            while start < range.end {
                let n = STRIP.min(range.end - start);
                run.strip(start, n);
                start += n;
            }
        });
    }

    /// Whether output `k`'s value may be written to its memory at once: an instruction makes it, no other output is
    /// the same value, and no operand read later lies in that memory.
    fn is_direct(&self, k: usize, operands: &[Source<'_>]) -> bool {
        let value = self.outputs[k];
        let Some(at) = value.checked_sub(self.operands) else { return false };
        !matches!(self.instructions[at], Instruction::Constant(_))
            && self.outputs.iter().filter(|&&v| v == value).count() == 1
            && operands.iter().enumerate().all(|(operand, source)| match *source {
                Source::Output(j) => j != k || self.last_use[operand] <= at + 1,
                _ => true,
            })
    }
}

/// Gives each value a strip, reusing those of values no longer read; `None` where more than `MAX_STRIPS` are needed.
fn assign_strips(operands: usize, instructions: &[Instruction], last_use: &[usize]) -> Option<Vec<u8>> {
    let values = operands + instructions.len();
    let mut strip = vec![0u8; values];
    let mut free_from = [0usize; MAX_STRIPS];
    let forever = usize::MAX;
    // Constants are written once per task, so nothing may share their strip.
    let constants = instructions.iter().enumerate().filter(|(_, i)| matches!(i, Instruction::Constant(_)));
    for value in (0..operands).chain(constants.map(|(at, _)| operands + at)) {
        let s = free_from.iter().position(|&free| free == 0)?;
        free_from[s] = forever;
        strip[value] = s as u8;
    }
    for (at, instruction) in instructions.iter().enumerate() {
        if matches!(instruction, Instruction::Constant(_)) {
            continue;
        }
        let value = operands + at;
        let s = free_from.iter().position(|&free| free <= at + 1)?;
        free_from[s] = last_use[value].max(at + 1);
        strip[value] = s as u8;
    }
    Some(strip)
}

/// One task: where operands and outputs lie, and the strips for what lies between.
struct Run<'a> {
    program: &'a Program,
    isa: Isa,
    operands: &'a [Source<'a>],
    outputs: [*mut f32; MAX_OUTPUTS],
    direct: [bool; MAX_OUTPUTS],
    /// The first of [`Strips`].
    strips: *mut [f32; STRIP],
}

#[repr(align(64))]
struct Strips([[f32; STRIP]; MAX_STRIPS]);

impl<'a> Run<'a> {
    /// A task of which no strip is longer than `width`; of the strips, only what it uses is initialised.
    fn new(
        program: &'a Program,
        isa: Isa,
        operands: &'a [Source<'a>],
        outputs: [*mut f32; MAX_OUTPUTS],
        direct: [bool; MAX_OUTPUTS],
        strips: &'a mut MaybeUninit<Strips>,
        width: usize,
    ) -> Self {
        // SAFETY: the address of a field, of which nothing is read.
        let strips = unsafe { &raw mut (*strips.as_mut_ptr()).0 };
        let run = Run { program, isa, operands, outputs, direct, strips: strips.cast() };
        for (value, source) in operands.iter().enumerate() {
            match *source {
                Source::Scalar(x) => run.fill(value, x, width),
                Source::Broadcast(..) => run.fill(value, 0.0, width),
                Source::Full(_) | Source::Output(_) => {}
            }
        }
        for (at, instruction) in program.instructions.iter().enumerate() {
            let value = program.operands + at;
            match *instruction {
                Instruction::Constant(x) => run.fill(value, x, width),
                _ if run.lies_in_output(value) => {}
                _ => run.fill(value, 0.0, width),
            }
        }
        run
    }

    /// Whether a value is written to an output's memory at once.
    fn lies_in_output(&self, value: usize) -> bool {
        self.program.outputs.iter().zip(self.direct).any(|(&v, direct)| v == value && direct)
    }

    /// The strip of a value.
    fn strip_of(&self, value: usize) -> *mut f32 {
        // SAFETY: strip numbers are below `MAX_STRIPS`.
        unsafe { self.strips.add(self.program.strip[value] as usize) }.cast()
    }

    /// Fills the used part of a value's strip.
    fn fill(&self, value: usize, x: f32, width: usize) {
        let strip = self.strip_of(value);
        for i in 0..width {
            // SAFETY: `width` is at most `STRIP`, and nothing else refers to the strips now.
            unsafe { strip.add(i).write(x) }
        }
    }

    /// Evaluates elements `start..start + n`.
    fn strip(&self, start: usize, n: usize) {
        let mut place = [std::ptr::null_mut::<f32>(); MAX_VALUES];
        for (value, place) in place[..self.program.strip.len()].iter_mut().enumerate() {
            *place = self.strip_of(value);
        }
        for (operand, source) in self.operands.iter().enumerate() {
            match *source {
                Source::Full(x) => place[operand] = x[start..start + n].as_ptr().cast_mut(),
                // SAFETY: the outputs have been checked to hold the whole range.
                Source::Output(k) => place[operand] = unsafe { self.outputs[k].add(start) },
                Source::Broadcast(x, b) => {
                    // SAFETY: the operand's own strip, which nothing else refers to now.
                    let strip = unsafe { std::slice::from_raw_parts_mut(place[operand], n) };
                    b.gather(x, start..start + n, strip);
                }
                Source::Scalar(_) => {}
            }
        }
        for (k, &value) in self.program.outputs.iter().enumerate() {
            if self.direct[k] {
                // SAFETY: as above.
                place[value] = unsafe { self.outputs[k].add(start) };
            }
        }
        self.evaluate(&place, n);
        for (k, &value) in self.program.outputs.iter().enumerate() {
            if !self.direct[k] {
                // SAFETY: `n` elements on both sides, which may be the same ones.
                unsafe { std::ptr::copy(place[value].cast_const(), self.outputs[k].add(start), n) };
            }
        }
    }

    fn evaluate(&self, place: &[*mut f32; MAX_VALUES], n: usize) {
        let isa = self.isa;
        let at = |value: usize| place[value].cast_const();
        for (i, instruction) in self.program.instructions.iter().enumerate() {
            let y = place[self.program.operands + i];
            match *instruction {
                Instruction::Constant(_) => {}
                Instruction::Unary(op, a) => unary_strip(isa, op, at(a), y, n),
                Instruction::Binary(op, a, b) => binary_strip(isa, op, at(a), at(b), y, n),
                Instruction::Ternary(op, a, b, c) => ternary_strip(isa, op, at(a), at(b), at(c), y, n),
            }
        }
    }
}
