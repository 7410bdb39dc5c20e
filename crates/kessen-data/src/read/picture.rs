//! Image files, and how they come to the network's size.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, imageops};

use super::file::read_bytes;
use crate::{Error, Fit, ImageInput, Place, Result};

/// The most pixels along one side.
const MAX_SIDE: u32 = 16_384;
/// The most bytes that decoding may take.
const MAX_BYTES: u64 = 512 << 20;

/// A decoded image: 8 bits per colour, upright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(RgbImage);

impl Picture {
    /// Reads the PNG, JPEG, BMP, GIF (first frame), PNM or WebP file `path`.
    ///
    /// # Errors
    /// [`Error::Io`] and those of [`Picture::decode`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::decode(&read_bytes(path, MAX_BYTES)?, &path.display().to_string())
    }

    /// Decodes the bytes of such a file, told apart by its first bytes; `name` stands for it in messages.
    ///
    /// A photograph is turned upright as its EXIF data says; an alpha channel is left out.
    ///
    /// ```
    /// use kessen_data::{Fit, ImageInput, Picture};
    ///
    /// let picture = Picture::decode(b"P2 2 1 255 0 255", "two.pgm")?;
    /// let grey = ImageInput { channels: 1, height: 1, width: 2, fit: Fit::Stretch };
    /// assert_eq!(picture.to_values(&grey), [0.0, 1.0]);
    /// # Ok::<(), kessen_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Format`] where it is no such image, is damaged, has a side of more than 16,384 pixels or no pixel, or
    /// would take more than 512 MiB.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        let wrong = |found: String| {
            let expected = "a PNG, JPEG, BMP, GIF, PNM or WebP image of at most 16384 × 16384 pixels";
            Error::format(Place::file(name), found, expected)
        };
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_BYTES);
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| wrong(e.to_string()))?;
        if reader.format().is_none() {
            return Err(wrong(format!("{} bytes of no known image format", bytes.len())));
        }
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| wrong(e.to_string()))?;
        let (w, h) = decoder.dimensions();
        if w == 0 || h == 0 || decoder.total_bytes() > MAX_BYTES {
            return Err(wrong(format!("{w} × {h} pixels, {} bytes", decoder.total_bytes())));
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| wrong(e.to_string()))?;
        image.apply_orientation(orientation);
        Ok(Self(image.to_rgb8()))
    }

    /// Columns of pixels.
    pub fn width(&self) -> usize {
        self.0.width() as usize
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.0.height() as usize
    }

    /// The pixels as RGB, row by row, 3 bytes each.
    pub fn rgb(&self) -> &[u8] {
        self.0.as_raw()
    }

    /// f32 \[C, H, W\] of the size and colours asked for; black is 0, white is 1.
    pub fn to_values(&self, input: &ImageInput) -> Vec<f32> {
        self.to_bytes(input).into_iter().map(|b| f32::from(b) * (1.0 / 255.0)).collect()
    }

    /// As [`to_values`](Self::to_values), with white 255.
    ///
    /// Sizes are changed by a triangle filter that widens when shrinking, as Pillow's and torchvision's bilinear
    /// `Resize` do; grey is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), as there.
    pub fn to_bytes(&self, input: &ImageInput) -> Vec<u8> {
        let (h, w) = (input.height.max(1) as u32, input.width.max(1) as u32);
        let image = fitted(&self.0, h, w, input.fit);
        let pixels = image.as_raw().as_chunks::<3>().0;
        if input.channels == 1 {
            return pixels.iter().map(grey).collect();
        }
        (0..3).flat_map(|c| pixels.iter().map(move |p| p[c])).collect()
    }
}

fn grey(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 + 500) / 1000) as u8
}

fn fitted(image: &RgbImage, h: u32, w: u32, fit: Fit) -> RgbImage {
    let resize = |image: &RgbImage, h: u32, w: u32| match image.dimensions() == (w, h) {
        true => image.clone(),
        false => imageops::resize(image, w, h, imageops::FilterType::Triangle),
    };
    let (from_h, from_w) = (f64::from(image.height()), f64::from(image.width()));
    let (fh, fw) = (f64::from(h) / from_h, f64::from(w) / from_w);
    match fit {
        Fit::Stretch => resize(image, h, w),
        Fit::Crop => {
            // Cut first, so that a long thin image never becomes a huge one.
            let factor = fh.max(fw);
            let side = |to: u32, most: u32| ((f64::from(to) / factor).round() as u32).clamp(1, most);
            let (cut_h, cut_w) = (side(h, image.height()), side(w, image.width()));
            let (y, x) = ((image.height() - cut_h) / 2, (image.width() - cut_w) / 2);
            resize(&imageops::crop_imm(image, x, y, cut_w, cut_h).to_image(), h, w)
        }
        Fit::Pad => {
            let factor = fh.min(fw);
            let side = |from: f64, most: u32| ((from * factor).round() as u32).clamp(1, most);
            let small = resize(image, side(from_h, h), side(from_w, w));
            let (y, x) = ((h - small.height()) / 2, (w - small.width()) / 2);
            let mut out = RgbImage::new(w, h);
            imageops::replace(&mut out, &small, i64::from(x), i64::from(y));
            out
        }
    }
}
