//! Draws one picture of every kind into a folder, as SVG and PNG:
//! `cargo run -p kessen-view --example gallery -- FOLDER`.

use kessen_view::{
    Approximation, Axis, BarChart, Block, BlockKind, ColourMap, Confusion, Diagram, HeatMap, Image,
    ImageGrid, Mark, Panels, Picture, Report, Result, Scale, Section, Series, Snapshot, Table, Tile,
    WidthError, XyChart, error_by_width, learning_curve,
};
use std::path::PathBuf;

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".into()));
    let made = std::fs::create_dir_all(&folder);
    made.map_err(|source| kessen_view::Error::Write { path: folder.clone(), source })?;
    let pictures = [
        ("curves", curves()),
        ("scatter", scatter()),
        ("log", log()),
        ("bars", bars()),
        ("lying_bars", lying_bars()),
        ("confusion", confusion()?),
        ("heat", heat()?),
        ("digits", digits()?),
        ("filters", filters()?),
        ("panels", panels()),
        ("approximation", approximation()?.picture()),
        ("fit", approximation()?.fit()),
        ("width", width()),
        ("steps", steps()),
        ("wiring", wiring()),
    ];
    for (name, picture) in pictures {
        picture.save(folder.join(name).with_extension("svg"))?;
        picture.save(folder.join(name).with_extension("png"))?;
    }
    report()?.save(folder.join("report.html"))
}

/// A repeatable stand-in for noise, in [0, 1).
fn noise(k: usize) -> f64 {
    let bits = (k as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64
}

fn curves() -> Picture {
    let curve = |rate: f64, floor: f64, salt: usize| {
        (1..=30).map(move |k| (k as f64, floor + 2.2 * (-rate * k as f64).exp() + 0.04 * noise(k + salt)))
    };
    XyChart::new("Cross-entropy")
        .x(Axis::new("epoch").whole())
        .y(Axis::new("loss").include(0.0))
        .line("train", curve(0.2, 0.03, 0))
        .line("validation", curve(0.22, 0.12, 100))
        .line("validation, no dropout", curve(0.3, 0.16, 200))
        .picture()
}

fn scatter() -> Picture {
    let cloud = |x: f64, y: f64, salt: usize| {
        (0..60).map(move |k| (x + noise(k + salt) + noise(k + salt + 500), y + noise(k + salt + 1000) * 1.4))
    };
    XyChart::new("Iris: petals")
        .x_label("length in cm")
        .y_label("width in cm")
        .points("setosa", cloud(1.0, 0.2, 0))
        .points("versicolor", cloud(3.5, 1.2, 60))
        .points("virginica", cloud(4.8, 1.9, 120))
        .picture()
}

fn log() -> Picture {
    let units = || (0..10).map(|k| f64::from(1 << k));
    XyChart::new("Error of the best network found")
        .x(Axis::new("hidden units").scale(Scale::Log2))
        .y(Axis::new("error").scale(Scale::Log10))
        .series(Series::new("worst", Mark::LinePoints, units().map(|u| (u, 0.5 * u.powf(-1.4)))))
        .series(Series::new("RMS", Mark::LinePoints, units().map(|u| (u, 0.2 * u.powf(-1.7)))))
        .rule(0.02, "bound 0.02")
        .picture()
}

fn bars() -> Picture {
    BarChart::new("ILSVRC top-5 error", ["2011", "2012", "2013", "2014", "2015", "2016", "2017"])
        .value_label("error in %")
        .series("", [25.8, 16.4, 11.7, 6.7, 3.57, 2.99, 2.25])
        .picture()
}

fn lying_bars() -> Picture {
    BarChart::new(
        "Samples per second",
        ["LeNet, batch 64", "AlexNet", "ResNet-34 with batch normalisation", "VGG-16"],
    )
    .value_label("samples/s")
    .series("1 thread", [41_200.0, 61.0, 22.5, 6.1])
    .series("2 threads", [78_000.0, 118.0, 43.0, 11.9])
    .picture()
}

fn confusion() -> Result<Picture> {
    let mut counts: Vec<u64> =
        (0..100).map(|k| u64::from(noise(k) > 0.85) * (1 + (noise(k + 7) * 4.0) as u64)).collect();
    counts.iter_mut().step_by(11).enumerate().for_each(|(k, c)| *c = 170 + k as u64);
    Ok(Confusion::new((0..10).map(|k| k.to_string()), &counts)?.picture())
}

fn heat() -> Result<Picture> {
    let words = ["I", "swam", "across", "the", "river", "to", "the", "other", "bank"];
    let map = HeatMap::new("Weights", words, words, (0..81).map(|k| noise(k) * 2.0 - 1.0))?;
    Ok(map.colours(ColourMap::Diverging).labels("to", "from").picture())
}

fn digits() -> Result<Picture> {
    let mut tiles = Vec::new();
    for k in 0..14 {
        let pixel = |p: usize| {
            let (x, y) = ((p % 8) as f64 - 3.5, (p / 8) as f64 - 3.5);
            (1.0 - ((x * x + y * y).sqrt() - 1.5 - noise(k) * 1.5).abs() + 0.3 * noise(p + k)) as f32
        };
        let image = Image::grey(8, 8, &(0..64).map(pixel).collect::<Vec<_>>(), 0.0, 1.0)?;
        let predicted = if noise(k) < 0.7 { "0".to_owned() } else { (k % 10).to_string() };
        tiles.push(Tile::judged(image, "0", &predicted).note(format!("{:.0} %", 100.0 * noise(k + 30))));
    }
    Ok(ImageGrid::new("Least certain answers", tiles).picture())
}

fn filters() -> Result<Picture> {
    let mut tiles = Vec::new();
    for k in 0..32 {
        let (a, f) = (noise(k) * 3.15, 0.4 + noise(k + 90));
        let value = |p: usize| {
            ((((p % 11) as f64 - 5.0) * a.cos() + ((p / 11) as f64 - 5.0) * a.sin()) * f).sin() as f32
        };
        tiles.push(Tile::new(Image::signed(11, 11, &(0..121).map(value).collect::<Vec<_>>(), None)?));
    }
    Ok(ImageGrid::new("First layer: 32 filters of 11×11", tiles).side(80.0).picture())
}

fn panels() -> Picture {
    let panel = |k: usize| {
        let wave = (0..200).map(move |x| (x as f64 / 100.0, (x as f64 / 30.0 * (1 + k) as f64).sin()));
        XyChart::new(format!("frequency {}", k + 1)).size(380.0, 260.0).line("", wave).picture()
    };
    (0..6).map(panel).fold(Panels::new("Small multiples", 3).sides(["low", "high"]), Panels::panel).picture()
}

/// A 1–6–1 perceptron before, during and after plain gradient descent on noisy samples of a sine.
fn approximation() -> Result<Approximation> {
    const H: usize = 6;
    let sigmoid = |u: f64| 1.0 / (1.0 + (-u).exp());
    let data: Vec<(f64, f64)> = (0..40)
        .map(|k| (f64::from(k) / 20.0 - 0.975, noise(k as usize) * 0.2 - 0.1))
        .map(|(x, e)| (x, (std::f64::consts::PI * x).sin() + 0.3 * x + e))
        .collect();
    let x: Vec<f64> = (0..=200).map(|k| f64::from(k) / 100.0 - 1.0).collect();
    let target: Vec<f64> = x.iter().map(|x| (std::f64::consts::PI * x).sin() + 0.3 * x).collect();
    let start = |k: usize, scale: f64| scale * (2.0 * noise(k + 40) - 1.0);
    let mut v: [f64; H] = std::array::from_fn(|k| start(k, 6.0));
    let mut c: [f64; H] = std::array::from_fn(|k| start(k + 10, 3.0));
    let mut w: [f64; H] = std::array::from_fn(|k| start(k + 20, 1.0));
    let mut b = 0.0;
    let mut shown = Approximation::new("Learning sin(πx) + 0.3x with six sigmoid units", x.clone())
        .target(target)?
        .data(data.iter().copied());
    for step in 0..=60_000 {
        if let Some(title) = [(0, "before"), (600, "after 600 steps"), (60_000, "after 60,000 steps")]
            .iter()
            .find_map(|(at, title)| (*at == step).then_some(*title))
        {
            shown = shown.snapshot(Snapshot::perceptron(title, &x, (&v, &c), (&w, b), sigmoid)?)?;
        }
        let rate = 0.1 / data.len() as f64;
        let (mut dv, mut dc, mut dw, mut db) = ([0.0; H], [0.0; H], [0.0; H], 0.0);
        for &(x, d) in &data {
            let z: [f64; H] = std::array::from_fn(|i| sigmoid(v[i] * x + c[i]));
            let delta = (0..H).map(|i| w[i] * z[i]).sum::<f64>() + b - d;
            db += delta;
            for i in 0..H {
                dw[i] += delta * z[i];
                let du = delta * w[i] * z[i] * (1.0 - z[i]);
                dv[i] += du * x;
                dc[i] += du;
            }
        }
        b -= rate * db;
        for i in 0..H {
            w[i] -= rate * dw[i];
            v[i] -= rate * dv[i];
            c[i] -= rate * dc[i];
        }
    }
    Ok(shown)
}

fn width() -> Picture {
    let error = |k: u32| {
        let units = f64::from(1 << k);
        let worst = 0.6 * units.powf(-1.1) * (0.8 + 0.4 * noise(k as usize));
        WidthError { units: 1 << k, worst, rms: worst * 0.3 }
    };
    error_by_width("|x| on [−1, 1] by a 1–H–1 perceptron", &(0..10).map(error).collect::<Vec<_>>())
}

fn steps() -> Picture {
    let curve = |floor: f64, salt: usize| {
        let at = move |k: usize| {
            floor
                + 2.0 * (-(k as f64) / 700.0).exp()
                + 0.5 * (noise(k + salt) - 0.3) / (1.0 + k as f64 / 900.0)
        };
        (1..5000).map(move |k| (k as f64, at(k))).collect::<Vec<_>>()
    };
    learning_curve(
        "Loss per step",
        "step",
        "cross-entropy",
        [("Adam", curve(0.1, 0)), ("SGD", curve(0.25, 9000))],
    )
    .picture()
}

fn report() -> Result<Report> {
    let layers = Table::new(["layer", "output", "receptive field", "parameters", "MACs"])
        .row(["conv c1", "batch×16×8×8", "3", "160", "9,216"])
        .row(["conv c2", "batch×32×8×8", "5", "4,640", "294,912"])
        .row(["linear f3", "batch×10", "8", "5,130", "5,120"])
        .total(["total", "", "", "9,930", "309,248"]);
    Ok(Report::new("digits")
        .subtitle("A small convolutional network on handwritten digits")
        .figure("test accuracy", "98.6 %")
        .figure("parameters", "9,930")
        .figure("epochs", "30")
        .figure("training time", "11.4 s")
        .section(
            Section::new("Learning")
                .pictures([(curves(), ""), (steps(), "Pale: as measured; strong: smoothed.")]),
        )
        .section(
            Section::new("Mistakes")
                .picture(confusion()?, "")
                .picture(digits()?, "The answers with the lowest probability."),
        )
        .section(Section::new("What the network looks for").picture(filters()?, ""))
        .section(
            Section::new("Function approximation")
                .picture(approximation()?.picture(), "Each hidden unit contributes one basis function."),
        )
        .section(Section::new("Architecture").table(layers))
        .section(Section::new("Recipe").code(
            "recipe.toml",
            "[data]\nname = \"digits\"\n\n[optimizer]\nname = \"adam\"\nlearning_rate = 1e-3\n",
        ))
        .provenance("version", env!("CARGO_PKG_VERSION"))
        .provenance("seed", "1"))
}

/// A residual block and an inception block, as drawn by hand.
fn wiring() -> Picture {
    let mut net = Diagram::new("Residual and inception blocks");
    let x = net.block(Block::new(BlockKind::Input, "image"), &[]);
    let stem =
        Block::new(BlockKind::Conv, "conv1").detail("7×7 / 2 · 64 filters").detail("batch norm · relu");
    let stem = net.block(stem, &[(x, "3×224×224")]);
    let mut last =
        net.block(Block::new(BlockKind::Pool, "maxpool").detail("3×3 / 2"), &[(stem, "64×112×112")]);
    let s = "64×56×56";
    for k in 0..2 {
        let conv =
            |n: usize| Block::new(BlockKind::Conv, format!("layer1.{k}.conv{n}")).detail("3×3 · 64 filters");
        let a = net.block(conv(1).detail("batch norm · relu"), &[(last, s)]);
        let b = net.block(conv(2).detail("batch norm"), &[(a, s)]);
        let sum = net.block(Block::new(BlockKind::Join, "add").detail("relu"), &[(b, s), (last, s)]);
        net.frame(format!("×{}", k + 2), [a, b, sum]);
        last = sum;
    }
    for k in 0..2 {
        let conv = |name: &str, m: usize| {
            Block::new(BlockKind::Conv, format!("inception{k}.{name}")).detail(format!("{m}×{m} · relu"))
        };
        let i = "192×28×28";
        let a = net.block(conv("1x1", 1), &[(last, i)]);
        let b = net.block(conv("3x3_reduce", 1), &[(last, i)]);
        let b = net.block(conv("3x3", 3), &[(b, "96×28×28")]);
        let c = net.block(conv("5x5_reduce", 1), &[(last, i)]);
        let c = net.block(conv("5x5", 5), &[(c, "16×28×28")]);
        let d = net.block(Block::new(BlockKind::Pool, "maxpool").detail("3×3 / 1"), &[(last, i)]);
        let d = net.block(conv("proj", 1), &[(d, i)]);
        last = net.block(
            Block::new(BlockKind::Join, "concat"),
            &[(a, "64×28×28"), (b, "128×28×28"), (c, "32×28×28"), (d, "32×28×28")],
        );
    }
    let fc = net.block(
        Block::new(BlockKind::Linear, "fc").detail("1000 units").detail("1,025,000 parameters"),
        &[(last, "256×28×28")],
    );
    net.block(Block::new(BlockKind::Output, "logits"), &[(fc, "1000")]);
    net.columns(2).picture()
}
