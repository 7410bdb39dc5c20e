//! Packs UCI's optdigits table (ARFF, 64 pixels and the class per row) into the file that the crate embeds.
//!
//! `cargo run -p kessen-data --example pack_digits -- optdigits.arff crates/kessen-data/assets/optdigits.zlib`

use std::error::Error;
use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, packed] = arguments.as_slice() else {
        return Err("usage: pack_digits TABLE.arff PACKED.zlib".into());
    };
    let text = std::fs::read_to_string(table)?;
    let (_, rows) = text.split_once("@data").ok_or("no @data line")?;
    let mut bytes = Vec::new();
    for row in rows.lines().map(str::trim).filter(|r| !r.is_empty() && !r.starts_with('%')) {
        let values = row.split(',').map(|v| v.trim().parse::<u8>()).collect::<Result<Vec<_>, _>>()?;
        if values.len() != 65 || values[..64].iter().any(|&v| v > 16) || values[64] > 9 {
            return Err(format!("not 64 pixels of 0 to 16 and a digit: {row}").into());
        }
        bytes.extend(values);
    }
    if bytes.len() != 5620 * 65 {
        return Err(format!("{} rows instead of 5620", bytes.len() / 65).into());
    }
    let mut encoder = ZlibEncoder::new(std::fs::File::create(packed)?, Compression::best());
    encoder.write_all(&bytes)?;
    println!("{} bytes", encoder.finish()?.metadata()?.len());
    Ok(())
}
