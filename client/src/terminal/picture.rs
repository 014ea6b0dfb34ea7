use std::fmt::Write;

use super::Style;

/// Characters from blank to dense, about evenly spaced in weight.
const SHADES: &[u8] = b" .:-=+*#%@";

/// Pictures narrower than this many characters are enlarged by a whole factor.
const MIN_WIDTH: usize = 16;

/// A grey picture for the terminal, bright on dark.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Row after row, 0 (dark) to 1 (bright).
    pixels: Vec<f64>,
}

impl Picture {
    /// A picture of `width` pixels per row. Values are stretched: the smallest is dark, the largest bright. `None`
    /// unless `values` are finite and form at least one whole row.
    pub fn new(width: usize, values: &[f64]) -> Option<Self> {
        if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
            return None;
        }
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Halved, because the span of two finite numbers may not be finite.
        let span = high / 2.0 - low / 2.0;
        let stretch = |value: f64| match span > 0.0 {
            true => ((value / 2.0 - low / 2.0) / span).clamp(0.0, 1.0),
            false => 0.0,
        };
        Some(Self {
            width,
            height: values.len() / width,
            pixels: values.iter().copied().map(stretch).collect(),
        })
    }

    /// The picture as lines of equal width, without line ends. A character is about twice as tall
    /// as wide, so it shows two pixels, one above the other.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let scale = MIN_WIDTH.div_ceil(self.width);
        let (width, height) = (self.width * scale, self.height * scale);
        let pixel = |x: usize, y: usize| match y < height {
            true => self.pixels[y / scale * self.width + x / scale],
            false => 0.0,
        };
        (0..height)
            .step_by(2)
            .map(|y| {
                let pairs = (0..width).map(|x| (pixel(x, y), pixel(x, y + 1)));
                match style {
                    Style::Ascii => pairs.map(shade).collect(),
                    Style::Palette => half_blocks(pairs, "5;", palette),
                    Style::TrueColor => half_blocks(pairs, "2;", |value| {
                        let level = (value * 255.0).round() as u8;
                        format!("{level};{level};{level}")
                    }),
                }
            })
            .collect()
    }
}

fn shade((upper, lower): (f64, f64)) -> char {
    let last = SHADES.len() - 1;
    let level = ((upper + lower) / 2.0 * last as f64).round() as usize;
    char::from(SHADES[level.min(last)])
}

/// The 24 greys of the 256-colour palette, between its black and its white.
fn palette(value: f64) -> String {
    let level = (value * 25.0).round() as u8;
    match level {
        0 => 16,
        1..=24 => 231 + level,
        _ => 231,
    }
    .to_string()
}

/// The upper pixel is the foreground of a `▀`, the lower one its background.
fn half_blocks(
    pairs: impl Iterator<Item = (f64, f64)>,
    kind: &str,
    colour: impl Fn(f64) -> String,
) -> String {
    let mut line = String::new();
    let mut current = None;
    for (upper, lower) in pairs {
        let colours = (colour(upper), colour(lower));
        if current.as_ref() != Some(&colours) {
            let (fore, back) = &colours;
            // Writing to a string cannot fail.
            let _ = write!(line, "\x1b[38;{kind}{fore};48;{kind}{back}m");
            current = Some(colours);
        }
        line.push('▀');
    }
    line.push_str("\x1b[0m");
    line
}
