//! Files of the user, with messages that name them.

use std::path::Path;

use anyhow::{Context, Result};

/// The largest text file that is read: a recipe or a wiring.
const MAX_TEXT: u64 = 16 << 20;

/// The text of the file `path`.
///
/// # Errors
/// A file that can't be read, is no UTF-8, or has more than 16 MiB.
pub fn read_text(path: &Path) -> Result<String> {
    let cannot = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).with_context(cannot)?.len();
    if size > MAX_TEXT {
        anyhow::bail!("{} has {size} bytes; a recipe or a wiring has at most 16 MiB", path.display());
    }
    let bytes = std::fs::read(path).with_context(cannot)?;
    String::from_utf8(bytes).with_context(|| format!("{} is no text in UTF-8", path.display()))
}

/// The bytes of the file `path`, or of standard input where it is `-`.
///
/// # Errors
/// What the operating system says, with the path.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)
            .context("cannot read standard input")?;
        return Ok(bytes);
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes `bytes` to `path` as a whole or not at all.
///
/// # Errors
/// What the operating system says, with the path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(kessen_formats::write_atomic(path, |w| w.write_all(bytes))?)
}

/// Creates the folder `path` and those above it.
///
/// # Errors
/// What the operating system says, with the path.
pub fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| {
        format!("cannot create the folder {}; choose a place that can be written with --out", path.display())
    })
}
