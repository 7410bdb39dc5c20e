//! Pixels from arrays, as PNG.

use crate::style::diverging;
use crate::{Error, Result};

/// A small picture made of pixels: a digit, a filter, a feature map, a photograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    /// `height × width × channels` bytes, rows from the top.
    pixels: Vec<u8>,
    channels: usize,
}

impl Image {
    /// A grey image from `height × width` values; `black` and `white` are the values shown as such, in either
    /// order. What is not finite becomes black.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of values is not `height × width`.
    pub fn grey(height: usize, width: usize, values: &[f32], black: f32, white: f32) -> Result<Image> {
        check(values.len(), height, width, 1)?;
        let span = if white == black { 1.0 } else { white - black };
        let pixels = values.iter().map(|v| byte((v - black) / span)).collect();
        Ok(Image { width, height, pixels, channels: 1 })
    }

    /// A grey image whose smallest finite value is black and whose largest is white.
    ///
    /// # Errors
    /// As [`Image::grey`].
    pub fn grey_stretched(height: usize, width: usize, values: &[f32]) -> Result<Image> {
        let (low, high) = reach(values);
        Image::grey(height, width, values, low, high)
    }

    /// A colour image from `3 × height × width` values (red plane, green plane, blue plane) in [`black`, `white`].
    ///
    /// # Errors
    /// [`Error::Length`] where the number of values is not `3 × height × width`.
    pub fn rgb(height: usize, width: usize, planes: &[f32], black: f32, white: f32) -> Result<Image> {
        check(planes.len(), height, width, 3)?;
        let span = if white == black { 1.0 } else { white - black };
        let plane = height * width;
        let at = |k: usize| byte((planes[k] - black) / span);
        let pixels = (0..plane).flat_map(|k| [at(k), at(plane + k), at(2 * plane + k)]).collect();
        Ok(Image { width, height, pixels, channels: 3 })
    }

    /// A colour image stretched so that its smallest finite value is 0 and its largest 1 in every plane alike, as
    /// the first layer's filters are usually shown.
    ///
    /// # Errors
    /// As [`Image::rgb`].
    pub fn rgb_stretched(height: usize, width: usize, planes: &[f32]) -> Result<Image> {
        let (low, high) = reach(planes);
        Image::rgb(height, width, planes, low, high)
    }

    /// Signed values as colours: blue below zero, white at zero, vermilion above; `limit` is the absolute value
    /// with the fullest colour, by default the largest one.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of values is not `height × width`.
    pub fn signed(height: usize, width: usize, values: &[f32], limit: Option<f32>) -> Result<Image> {
        check(values.len(), height, width, 1)?;
        let largest = || values.iter().map(|v| v.abs()).filter(|v| v.is_finite()).fold(0.0, f32::max);
        let limit = limit.unwrap_or_else(largest).max(f32::MIN_POSITIVE);
        let colour = |v: &f32| diverging(f64::from(v / limit));
        let pixels = values.iter().map(colour).flat_map(|c| [c.0, c.1, c.2]).collect();
        Ok(Image { width, height, pixels, channels: 3 })
    }

    /// An image from bytes, `height × width × channels` with one (grey) or three (red, green, blue) channels.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of bytes is not `height × width` or three times that.
    pub fn bytes(height: usize, width: usize, pixels: Vec<u8>) -> Result<Image> {
        let channels = if Some(pixels.len()) == expected(height, width, 3) { 3 } else { 1 };
        check(pixels.len(), height, width, channels)?;
        Ok(Image { width, height, pixels, channels })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The image as PNG with every pixel repeated `times` × `times`, so that it stays crisp wherever it is shown.
    pub(crate) fn png(&self, times: usize) -> Vec<u8> {
        let row =
            |y: usize| &self.pixels[y * self.width * self.channels..(y + 1) * self.width * self.channels];
        let mut enlarged = Vec::with_capacity(self.pixels.len() * times * times);
        for y in 0..self.height {
            let wide: Vec<u8> = row(y).chunks(self.channels).flat_map(|p| p.repeat(times)).collect();
            enlarged.extend(wide.repeat(times));
        }
        let mut png = Vec::new();
        let mut encoder =
            png::Encoder::new(&mut png, (self.width * times) as u32, (self.height * times) as u32);
        encoder.set_color(if self.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        // Writing to memory fails for an empty image only; that one stays an empty file, which shows nothing.
        if let Ok(mut writer) = encoder.write_header() {
            let _ = writer.write_image_data(&enlarged);
        }
        png
    }
}

fn byte(share: f32) -> u8 {
    // The cast takes NaN to 0 and saturates.
    (share * 255.0).round() as u8
}

fn reach(values: &[f32]) -> (f32, f32) {
    let finite = values.iter().copied().filter(|v| v.is_finite());
    finite
        .fold(None, |r: Option<(f32, f32)>, v| r.map_or(Some((v, v)), |(a, b)| Some((a.min(v), b.max(v)))))
        .unwrap_or((0.0, 1.0))
}

fn expected(height: usize, width: usize, channels: usize) -> Option<usize> {
    height.checked_mul(width)?.checked_mul(channels)
}

fn check(found: usize, height: usize, width: usize, channels: usize) -> Result<()> {
    let expected = expected(height, width, channels).unwrap_or(usize::MAX);
    if found == expected {
        return Ok(());
    }
    let what = format!("image of height {height} and width {width}");
    Err(Error::Length { what, found, expected, because: "height × width × channels" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(image: &Image, times: usize) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(image.png(times))).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn pixels_are_repeated() {
        let image = Image::grey(1, 2, &[0.0, 1.0], 0.0, 1.0).unwrap();
        assert_eq!(decoded(&image, 2), (4, 2, vec![0, 0, 255, 255, 0, 0, 255, 255]));
    }

    #[test]
    fn values_become_the_colours_documented() {
        let cases = [
            ("inverted", Image::grey(1, 3, &[0.0, 0.5, 1.0], 1.0, 0.0), vec![255, 128, 0]),
            ("clamped", Image::grey(1, 3, &[-9.0, 9.0, f32::NAN], 0.0, 1.0), vec![0, 255, 0]),
            ("stretched", Image::grey_stretched(1, 3, &[2.0, 4.0, 3.0]), vec![0, 255, 128]),
            ("constant", Image::grey_stretched(1, 2, &[2.0, 2.0]), vec![0, 0]),
            ("planes", Image::rgb(1, 1, &[1.0, 0.5, 0.0], 0.0, 1.0), vec![255, 128, 0]),
            ("bytes", Image::bytes(1, 1, vec![1, 2, 3]), vec![1, 2, 3]),
        ];
        for (name, image, expected) in cases {
            assert_eq!(decoded(&image.unwrap(), 1).2, expected, "{name}");
        }
        let signed = decoded(&Image::signed(1, 2, &[-1.0, 1.0], None).unwrap(), 1).2;
        assert!(signed[0] < signed[2] && signed[3] > signed[5], "{signed:?}");
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let error = Image::grey(2, 3, &[0.0; 5], 0.0, 1.0).unwrap_err().to_string();
        assert!(error.contains("found 5") && error.contains("expected 6"), "{error}");
        assert!(Image::rgb(2, 3, &[0.0; 6], 0.0, 1.0).is_err());
        assert!(Image::grey(usize::MAX, 2, &[], 0.0, 1.0).is_err());
    }

    #[test]
    fn an_empty_image_shows_nothing() {
        assert!(Image::grey(0, 0, &[], 0.0, 1.0).unwrap().png(3).len() < 100);
    }
}
