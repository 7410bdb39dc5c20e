//! Whole files, with a limit on what is taken into memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Error, Place, Result};

/// The most bytes that one file may hold, after decompression.
pub(crate) const LIMIT: u64 = 2 << 30;

/// The bytes of the file `path`, decompressed where its name ends in `.gz`.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?;
    if length.is_dir() {
        let place = Place::file(path.display().to_string());
        return Err(Error::format(place, "a folder", "a file"));
    }
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz")) {
        return gunzip(file, &path.display().to_string(), limit);
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    within(bytes, &path.display().to_string(), limit)
}

/// The bytes of a gzip stream, at most `limit`.
pub(crate) fn gunzip(stream: impl Read, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(stream).take(limit + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        let found = format!("{error} after {} bytes", bytes.len());
        return Err(Error::format(Place::file(name), found, "a whole gzip stream; fetch the file again"));
    }
    within(bytes, name, limit)
}

fn within(bytes: Vec<u8>, name: &str, limit: u64) -> Result<Vec<u8>> {
    if bytes.len() as u64 > limit {
        let found = format!("more than {} MiB", limit >> 20);
        return Err(Error::format(Place::file(name), found, "a smaller file"));
    }
    Ok(bytes)
}

/// The text of the file `path`, UTF-8 with or without a byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    text(read_bytes(path, LIMIT)?, &path.display().to_string())
}

/// `bytes` as UTF-8, without a byte order mark.
pub(crate) fn text(bytes: Vec<u8>, name: &str) -> Result<String> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count() as u64;
        let found = format!("byte 0x{:02x}, which is no UTF-8", error.as_bytes()[at]);
        Error::format(Place::line(name, line), found, "text in UTF-8; convert the file first")
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// The entries of a folder in the order of their names, hidden ones left out.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
