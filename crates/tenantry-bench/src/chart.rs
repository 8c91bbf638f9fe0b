//! Line charts as SVG, with nothing but text.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// Okabe and Ito's colours, which colour-blind readers can tell apart.
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// How values become places on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// Only for values above 0; others are left out.
    Logarithmic,
}

/// One axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

/// The values that an axis shows, already as logarithms if it is logarithmic.
#[derive(Debug, Clone, Copy)]
struct Range {
    from: f64,
    to: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (from, to) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
        if from > to {
            return Self { from: 0.0, to: 1.0 };
        }
        let margin = if to > from { (to - from) * 0.04 } else { 0.5 };
        Self { from: from - margin, to: to + margin }
    }

    /// From 0 to 1 within the range.
    fn share(self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        if self.scale == Scale::Logarithmic { value.log10() } else { value }
    }

    /// Round values within a range of places, with their texts.
    fn ticks(&self, range: Range) -> Vec<(f64, String)> {
        let round = match self.scale {
            Scale::Linear => steps(range),
            Scale::Logarithmic => decades(range),
        };
        let inside =
            round.into_iter().filter(|v| (0.0..=1.0).contains(&range.share(self.place(*v))));
        inside.map(|value| (self.place(value), tick_text(value))).collect()
    }
}

/// About six multiples of 1, 2 or 5 times a power of ten.
fn steps(range: Range) -> Vec<f64> {
    let rough = (range.to - range.from) / 6.0;
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
    let step = step.unwrap_or(power);
    let first = (range.from / step).ceil();
    (0..12).map(|i| (first + f64::from(i)) * step).collect()
}

/// 1, 2 and 5 times each power of ten.
fn decades(range: Range) -> Vec<f64> {
    let first = range.from.floor();
    (0..12).flat_map(|i| [1.0, 2.0, 5.0].map(|m| m * 10.0_f64.powf(first + f64::from(i)))).collect()
}

fn tick_text(value: f64) -> String {
    let digits = format!("{value:.4}");
    let short = digits.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-0" { "0".to_owned() } else { short.to_owned() }
}

impl Chart {
    /// The chart as SVG.
    pub(crate) fn svg(&self) -> String {
        let drawable = |(x, y): &(f64, f64)| {
            let place = (self.x.place(*x), self.y.place(*y));
            (place.0.is_finite() && place.1.is_finite()).then_some(place)
        };
        let lines: Vec<Vec<_>> = self
            .series
            .iter()
            .map(|series| series.points.iter().filter_map(drawable).collect())
            .collect();
        let x = Range::of(lines.iter().flatten().map(|point| point.0));
        let y = Range::of(lines.iter().flatten().map(|point| point.1));
        let right = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
        let down = |value: f64| TOP + (1.0 - y.share(value)) * (HEIGHT - TOP - BOTTOM);
        let mut svg = self.frame();
        for (value, label) in self.x.ticks(x) {
            grid(&mut svg, (right(value), TOP), (right(value), HEIGHT - BOTTOM));
            text(&mut svg, (right(value), HEIGHT - BOTTOM + 18.0), "middle", &label);
        }
        for (value, label) in self.y.ticks(y) {
            grid(&mut svg, (LEFT, down(value)), (WIDTH - RIGHT, down(value)));
            text(&mut svg, (LEFT - 8.0, down(value) + 4.0), "end", &label);
        }
        for ((index, line), colour) in lines.iter().enumerate().zip(COLOURS.iter().cycle()) {
            let points: Vec<_> = line.iter().map(|(a, b)| (right(*a), down(*b))).collect();
            polyline(&mut svg, &points, colour);
            let row = TOP + 12.0 + 20.0 * index as f64;
            polyline(&mut svg, &[(WIDTH - RIGHT + 16.0, row - 4.0)], colour);
            let name = self.series.get(index).map_or("", |series| series.name.as_str());
            text(&mut svg, (WIDTH - RIGHT + 28.0, row), "start", name);
        }
        svg + "</svg>\n"
    }

    fn frame(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, TOP - 20.0), "start", &self.title);
        let middle = LEFT.midpoint(WIDTH - RIGHT);
        text(&mut svg, (middle, HEIGHT - 16.0), "middle", self.x.label);
        let side = TOP.midpoint(HEIGHT - BOTTOM);
        let label = escaped(self.y.label);
        let _ = writeln!(
            svg,
            "<text transform=\"translate(20 {side:.1}) rotate(-90)\" text-anchor=\"middle\">{label}</text>"
        );
        svg
    }
}

fn grid(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
        at.0, at.1
    );
}

/// A line through points, with a dot at each.
fn polyline(svg: &mut String, points: &[(f64, f64)], colour: &str) {
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in points {
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "a <b>".to_owned(), points }];
        let x = Axis { label: "recall", scale: Scale::Linear };
        let y = Axis { label: "time", scale: Scale::Logarithmic };
        Chart { title: "t & t".to_owned(), x, y, series }.svg()
    }

    #[test]
    fn better_values_lie_further_right_and_smaller_ones_lower() {
        let svg = chart(vec![(0.9, 10.0), (0.99, 1_000.0)]);
        let line = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let numbers: Vec<f64> = line.split([' ', ',']).map(|n| n.parse().unwrap()).collect();
        assert!(numbers[2] > numbers[0] && numbers[3] < numbers[1], "{line}");
        assert!(numbers.iter().all(|n| *n > 0.0 && *n < WIDTH));
    }

    #[test]
    fn names_are_escaped_and_odd_values_left_out() {
        let svg = chart(vec![(0.9, 0.0), (f64::NAN, 1.0), (0.95, 20.0)]);
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("t &amp; t"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!chart(Vec::new()).contains("NaN"));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let range = Range { from: 0.93, to: 1.0 };
        let texts: Vec<_> = Axis { label: "", scale: Scale::Linear }.ticks(range);
        assert_eq!(texts.first().map(|t| t.1.as_str()), Some("0.94"));
        assert_eq!(texts.last().map(|t| t.1.as_str()), Some("1"));
        let logarithmic = Axis { label: "", scale: Scale::Logarithmic };
        let texts: Vec<_> =
            logarithmic.ticks(Range { from: 1.1, to: 3.0 }).into_iter().map(|t| t.1).collect();
        assert_eq!(texts, ["20", "50", "100", "200", "500", "1000"]);
    }
}
