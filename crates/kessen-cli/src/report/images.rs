//! Images in the report: the worst answers, the first layer's filters.

use anyhow::Result;
use kessen_data::{ImageInput, Splits};
use kessen_train::Trained;
use kessen_view::{Image, ImageGrid, Picture, Tile};

use super::answers::Answers;

/// Images on the sheet of worst answers.
const WORST: usize = 32;
/// Filters that are shown.
const FILTERS: usize = 64;

/// The test images whose class got the lowest probability.
pub fn worst(splits: &Splits, answers: &Answers, input: &ImageInput, labels: &[String]) -> Result<Picture> {
    let mut order: Vec<(f64, usize, usize)> = (0..answers.len())
        .map(|i| {
            let p = answers.probabilities(i);
            let class = usize::try_from(answers.classes[i]).unwrap_or_default();
            let best = p.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(k, _)| k);
            (p.get(class).copied().unwrap_or_default(), i, best)
        })
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut tiles = Vec::new();
    for &(probability, i, best) in order.iter().take(WORST) {
        let sample = splits.test.sample(i)?;
        let mut pixels = sample[0].1.as_slice::<f32>()?.to_vec();
        splits.test.preprocess().standardise.undo(&mut pixels);
        let (h, w) = (input.height, input.width);
        let image = match input.channels {
            1 => Image::grey(h, w, &pixels, 0.0, 1.0)?,
            _ => Image::rgb(h, w, &pixels, 0.0, 1.0)?,
        };
        let class = usize::try_from(answers.classes[i]).unwrap_or_default();
        let name = |k: usize| labels.get(k).map_or("?", String::as_str);
        tiles
            .push(Tile::judged(image, name(class), name(best)).note(format!("{:.1} %", 100.0 * probability)));
    }
    Ok(ImageGrid::new("Least certain answers", tiles).picture())
}

/// The filters of the first convolution, where its weights stand in a picture of their own: at least 3×3, on grey or
/// colour.
pub fn filters(trained: &Trained) -> Result<Option<Picture>> {
    let first = trained.params().iter().find(|(_, t)| t.shape().len() == 4);
    let Some((_, weight)) = first else { return Ok(None) };
    let &[count, channels, h, w] = weight.shape() else { return Ok(None) };
    if h < 3 || w < 3 || !matches!(channels, 1 | 3) {
        return Ok(None);
    }
    let values = weight.as_slice::<f32>()?;
    let mut tiles = Vec::new();
    for filter in values.chunks(channels * h * w).take(FILTERS.min(count)) {
        tiles.push(Tile::new(match channels {
            1 => Image::signed(h, w, filter, None)?,
            _ => Image::rgb_stretched(h, w, filter)?,
        }));
    }
    Ok(Some(ImageGrid::new("", tiles).side(64.0).picture()))
}
