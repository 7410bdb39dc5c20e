//! Which instruction set the kernels use: detected once, overridable, never guessed.
//!
//! The environment variable `KESSEN_ISA=scalar|avx2|avx512|neon` forces one for the process and fails loudly
//! where the CPU lacks it; so does `KESSEN_BF16` for the products of bf16 ([`crate::bf16`]). [`with`] forces one for a
//! closure (and the pool's threads working for it), so that one test process covers them all.

use crate::{Error, bf16};
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

/// An instruction set that has kernels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Isa {
    /// Plain Rust, on every CPU.
    Scalar = 1,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2 = 2,
    /// x86-64 with AVX-512 F, BW, DQ and VL (and AVX2, FMA).
    Avx512 = 3,
    /// AArch64 with NEON.
    Neon = 4,
}

impl Isa {
    /// All instruction sets, the plainest first.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The name used by `KESSEN_ISA`.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Number of `f32` lanes in one vector register (1 for scalar).
    pub const fn lanes(self) -> usize {
        match self {
            Isa::Scalar => 1,
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
            Isa::Neon => 4,
        }
    }

    /// Whether this CPU can run it.
    pub fn supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The instruction sets this CPU can run, the plainest first.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.supported())
    }

    /// The instruction set kernels called from this thread use: [`with`]'s, else the process's ([`init`]).
    ///
    /// # Panics
    /// If `KESSEN_ISA` asks for something this CPU lacks; a program that calls [`init`] at its start gets that as an
    /// error instead.
    pub fn active() -> Isa {
        match OVERRIDE.get() {
            Some(isa) => isa,
            None => init().unwrap_or_else(|error| panic!("{error}")),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// Chooses the process's instruction set: `KESSEN_ISA` where set, else the best this CPU has. Later calls return the
/// first one's answer.
///
/// # Errors
/// `KESSEN_ISA` or `KESSEN_BF16` names something unknown or something this CPU lacks.
pub fn init() -> Result<Isa, Error> {
    static CHOSEN: OnceLock<Result<Isa, Error>> = OnceLock::new();
    bf16::init()?;
    CHOSEN
        .get_or_init(|| match std::env::var("KESSEN_ISA") {
            Ok(name) if !name.is_empty() => parse(&name),
            _ => Ok(best()),
        })
        .clone()
}

/// Runs `f` with kernels forced to `isa`, on this thread and on the pool's threads while they work for it.
///
/// # Panics
/// If this CPU lacks `isa`.
pub fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    assert!(isa.supported(), "{isa} is not available on this CPU, which has: {}", names());
    let _restore = replace(Some(isa));
    f()
}

/// The override in force on this thread, for the pool to carry over.
pub(crate) fn current_override() -> Option<Isa> {
    OVERRIDE.get()
}

/// Sets the override until the returned guard is dropped.
pub(crate) fn replace(isa: Option<Isa>) -> impl Drop {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    Restore(OVERRIDE.replace(isa))
}

/// The best instruction set of this CPU.
fn best() -> Isa {
    [Isa::Avx512, Isa::Neon, Isa::Avx2].into_iter().find(|isa| isa.supported()).unwrap_or(Isa::Scalar)
}

fn names() -> String {
    Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ")
}

fn parse(name: &str) -> Result<Isa, Error> {
    let Some(isa) = Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name)) else {
        let nearest = Isa::ALL
            .into_iter()
            .map(Isa::name)
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let hint = nearest.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
        return Err(Error::UnknownIsa { found: name.into(), hint, available: names() });
    };
    if isa.supported() {
        Ok(isa)
    } else {
        Err(Error::MissingIsa { found: isa.name().into(), available: names() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_foreign_ones_are_refused() {
        for isa in Isa::ALL {
            assert_eq!(parse(isa.name()).is_ok(), isa.supported(), "{isa}");
        }
        let text = parse("avx22").unwrap_err().to_string();
        assert!(text.contains("did you mean \"avx2\"") && text.contains("scalar"), "{text}");
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let text = parse(foreign).unwrap_err().to_string();
        assert!(text.contains("not available") && text.contains("scalar"), "{text}");
    }

    #[test]
    fn the_override_ends_with_its_closure() {
        let before = Isa::active();
        with(Isa::Scalar, || {
            assert_eq!(Isa::active(), Isa::Scalar);
            let caught = std::panic::catch_unwind(|| with(best(), || panic!("unwinds")));
            assert!(caught.is_err());
            assert_eq!(Isa::active(), Isa::Scalar);
        });
        assert_eq!(Isa::active(), before);
    }
}
