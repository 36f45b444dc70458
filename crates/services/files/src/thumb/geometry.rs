//! What is cut, scaled and cut again, in numbers. It follows PocketBase to the pixel.

use super::{Shape, Size};

/// An image with a shorter side is scaled before it is cut: cut first, its few pixels would lie off the
/// middle.
const SMALL_SIDE: u32 = 100;

/// What is done to an image: this part of it is scaled to this width and height, and cut to this part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) part: Part,
    pub(super) scaled: (u32, u32),
    pub(super) cut: Part,
}

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(size: Size, width: u32, height: u32) -> Plan {
        let all = Part::all(width, height);
        let of_all = |scaled: (u32, u32)| Plan { part: all, scaled, cut: Part::all(scaled.0, scaled.1) };
        let wanted = (size.width, size.height);
        match size.shape {
            Shape::Ratio => of_all(by_ratio(wanted, width, height)),
            Shape::Fit => of_all(fit(wanted, width, height)),
            _ if wanted == (width, height) => of_all(wanted),
            shape if width >= SMALL_SIDE && height >= SMALL_SIDE => {
                let part = part_of_shape(wanted, shape, width, height);
                Plan { part, scaled: wanted, cut: Part::all(wanted.0, wanted.1) }
            }
            shape => {
                let is_narrow = is_narrower((width, height), wanted);
                let side = if is_narrow { (wanted.0, 0) } else { (0, wanted.1) };
                let scaled = by_ratio(side, width, height);
                Plan { part: all, scaled, cut: Part::at(shape, wanted, scaled) }
            }
        }
    }

    /// Of what comes out, and of what is between: the part of the source at its new height.
    pub(super) fn most_pixels(&self) -> u64 {
        u64::from(self.part.width.max(self.scaled.0)) * u64::from(self.scaled.1)
    }
}

// === impl Part ===

impl Part {
    fn all(width: u32, height: u32) -> Part {
        Part { x: 0, y: 0, width, height }
    }

    /// The part of this size that a shape keeps.
    fn at(shape: Shape, (width, height): (u32, u32), whole: (u32, u32)) -> Part {
        let (width, height) = (width.min(whole.0), height.min(whole.1));
        let y = match shape {
            Shape::Top => 0,
            Shape::Bottom => whole.1 - height,
            _ => (whole.1 - height) / 2,
        };
        Part { x: (whole.0 - width) / 2, y, width, height }
    }
}

/// The largest part that has the shape of the size.
fn part_of_shape(wanted: (u32, u32), shape: Shape, width: u32, height: u32) -> Part {
    let part = if is_narrower((width, height), wanted) {
        (width, scaled_side(width, wanted.1, wanted.0))
    } else {
        (scaled_side(height, wanted.0, wanted.1), height)
    };
    Part::at(shape, part, (width, height))
}

/// The side that is 0 follows from the other.
fn by_ratio(wanted: (u32, u32), width: u32, height: u32) -> (u32, u32) {
    match wanted {
        (0, wanted_height) => (scaled_side(wanted_height, width, height), wanted_height),
        (wanted_width, _) => (wanted_width, scaled_side(wanted_width, height, width)),
    }
}

/// An image that is small enough stays as it is.
fn fit(wanted: (u32, u32), width: u32, height: u32) -> (u32, u32) {
    if width <= wanted.0 && height <= wanted.1 {
        return (width, height);
    }
    let ratio = f64::from(width) / f64::from(height);
    let (fit_width, fit_height) = if ratio > f64::from(wanted.0) / f64::from(wanted.1) {
        (wanted.0, (f64::from(wanted.0) / ratio) as u32)
    } else {
        ((f64::from(wanted.1) * ratio) as u32, wanted.1)
    };
    (fit_width.max(1), fit_height.max(1))
}

fn is_narrower(one: (u32, u32), other: (u32, u32)) -> bool {
    u64::from(one.0) * u64::from(other.1) < u64::from(other.0) * u64::from(one.1)
}

/// `side * numerator / denominator`, to the nearest, but at least 1.
fn scaled_side(side: u32, numerator: u32, denominator: u32) -> u32 {
    let scaled = f64::from(side) * f64::from(numerator) / f64::from(denominator);
    (scaled.round() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(size: &str, source: (u32, u32), expected: (u32, u32)) {
        let plan = Plan::new(Size::parse(size).unwrap(), source.0, source.1);
        assert_eq!((plan.cut.width, plan.cut.height), expected, "{size} of {source:?}");
        assert!(plan.part.x + plan.part.width <= source.0 && plan.part.y + plan.part.height <= source.1);
        assert!(plan.cut.x + plan.cut.width <= plan.scaled.0);
        assert!(plan.cut.y + plan.cut.height <= plan.scaled.1);
    }

    #[test]
    fn a_thumb_has_the_size_that_was_asked() {
        for source in [(300, 200), (200, 300), (60, 40), (1, 1), (1, 3_000), (99, 101), (40, 50)] {
            for size in ["40x50", "40x50t", "40x50b", "1x1", "400x3t", "3x400b"] {
                let (width, height) = size.trim_end_matches(['t', 'b']).split_once('x').unwrap();
                check(size, source, (width.parse().unwrap(), height.parse().unwrap()));
            }
        }
    }

    #[test]
    fn a_missing_side_follows_from_the_image() {
        check("0x100", (300, 200), (150, 100));
        check("100x0", (300, 200), (100, 67));
        check("600x0", (300, 200), (600, 400));
        check("1x0", (3_000, 2), (1, 1));
    }

    #[test]
    fn an_image_fits_and_never_grows() {
        check("100x100f", (300, 200), (100, 66));
        check("100x100f", (200, 300), (66, 100));
        check("100x100f", (60, 40), (60, 40));
        check("10x10f", (3_000, 2), (10, 1));
    }

    #[test]
    fn the_part_that_is_kept_lies_where_it_should() {
        let part = |size: &str| Plan::new(Size::parse(size).unwrap(), 200, 300).part;
        assert_eq!(part("10x10"), Part { x: 0, y: 50, width: 200, height: 200 });
        assert_eq!(part("10x10t"), Part { x: 0, y: 0, width: 200, height: 200 });
        assert_eq!(part("10x10b"), Part { x: 0, y: 100, width: 200, height: 200 });
        assert_eq!(part("10x30t"), Part { x: 50, y: 0, width: 100, height: 300 });
    }
}
