//! Readers under random damage: errors are welcome, panics and hangs are not.
//!
//! The bodies are shared with cargo-fuzz; here each runs for a fixed number of seeded rounds.

mod bodies;

use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, WebP};
use kessen_data::data;
use kessen_tensor::Rng;

const ROUNDS: usize = 3000;

/// Flips, cuts, repeats, inserts and joins at random.
fn mutate(rng: &mut Rng, seeds: &[&[u8]]) -> Vec<u8> {
    const TOKENS: [&[u8]; 14] = [
        b"@data\n",
        b"{",
        b"}",
        b"'",
        b"?",
        b",",
        b"\n",
        b"1e999",
        b"NaN",
        b"(",
        b"-",
        b"^",
        b"\xff\xff\xff\xff",
        b"\0",
    ];
    let mut bytes = seeds[rng.below(seeds.len())].to_vec();
    for _ in 0..1 + rng.below(6) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + rng.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let other = seeds[rng.below(seeds.len())];
                let from = rng.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            4 if at < bytes.len() => bytes[at] = rng.next_u32() as u8,
            _ => {
                bytes.splice(at..at, TOKENS[rng.below(TOKENS.len())].iter().copied());
            }
        }
    }
    bytes
}

fn run(name: &str, seeds: &[&[u8]], body: fn(&[u8]) -> bool) {
    let mut rng = Rng::named(1, name);
    for seed in seeds {
        assert!(body(seed), "{name}: an undamaged seed is refused: {:?}", String::from_utf8_lossy(seed));
    }
    let accepted = (0..ROUNDS).filter(|_| body(&mutate(&mut rng, seeds))).count();
    // A mutator that only makes rubbish, or none at all, tests little.
    assert!((1..ROUNDS).contains(&accepted), "{name}: {accepted} of {ROUNDS} accepted");
}

#[test]
fn arff() {
    let seed =
        b"% c\n@relation r\n@attribute 'a b' real\n@attribute c {u,'v w'}\n@data\n1,u\n2,'v w'\n3,u\n4,?\n";
    run("arff", &[seed, include_bytes!("../assets/iris.arff")], bodies::arff);
}

#[test]
fn csv() {
    run(
        "csv",
        &[b"a,b,c\n1,2,x\n3,4,y\n5,6,x\n", b"1;2\n3;4\n5;6\n", b"\"q,1\"\ty\n1\t2\n3\t4\n"],
        bodies::csv,
    );
}

#[test]
fn idx() {
    run(
        "idx",
        &[&[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4], &[0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0]],
        bodies::idx,
    );
}

#[test]
fn expression() {
    let seeds: [&[u8]; 3] = [b"sin(2*pi*x)+0.3*x", b"max(abs(x), -x^2)/1e3", b"step(x)-floor(.5)"];
    run("expression", &seeds, bodies::expression);
}

#[test]
fn preprocess() {
    let iris = serde_json::to_vec(data::iris().unwrap().train.preprocess()).unwrap();
    let digits = serde_json::to_vec(data::digits().unwrap().train.preprocess()).unwrap();
    run("preprocess", &[&iris, &digits], bodies::preprocess);
}

#[test]
fn image() {
    let input = image::GrayImage::from_fn(9, 7, |x, y| image::Luma([(x * 20 + y) as u8]));
    let input = image::DynamicImage::from(input);
    let encode = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        input.to_rgb8().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let files = [Bmp, Gif, Jpeg, Png, Pnm, WebP].map(encode);
    run("image", &files.each_ref().map(Vec::as_slice), bodies::image);
}
