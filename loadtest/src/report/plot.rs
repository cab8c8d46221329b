//! Plots as SVG, written by hand. Colours differ in lightness and lines in dashes too, so that they survive grey paper.

use std::fmt::Write as _;

use super::escape;
use crate::live::micros;

/// Size of a plot, and of the space around what is plotted.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 62.0;

/// Colour and dashes of the lines, in order. The first is the gateway's.
const INKS: [(&str, &str); 6] = [
    ("#0550ae", ""),
    ("#1a7f37", "7 3"),
    ("#bc4c00", "2 3"),
    ("#8250df", "9 3 2 3"),
    ("#57606a", "4 4"),
    ("#bf3989", "1 2"),
];

pub struct Bar {
    pub name: String,
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Behind the value.
    pub note: String,
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Horizontal bars with whiskers, from zero.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let height = TOP + 34.0 * f64::from(u32::try_from(bars.len()).unwrap_or(u32::MAX)) + 10.0;
    let mut svg = open(title, height);
    let most = bars.iter().map(|bar| bar.high).fold(0.0, f64::max).max(1e-9);
    // Room on the right for the numbers.
    let x = |value: f64| 110.0 + value / most * (WIDTH - 110.0 - 130.0);
    let mut y = TOP + 6.0;
    for (bar, (colour, _)) in bars.iter().zip(INKS.iter().cycle()) {
        let (middle, end) = (y + 11.0, x(bar.value));
        let _ = writeln!(
            svg,
            "<text x=\"104\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"110\" y=\"{y:.1}\" width=\"{:.1}\" height=\"22\" fill=\"{colour}\" fill-opacity=\"0.75\"/>\
             <path d=\"M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v10M{:.1} {:.1}v10\" stroke=\"#1b1f24\" fill=\"none\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{} <tspan class=\"quiet\">{}</tspan></text>",
            middle + 4.0,
            escape(&bar.name),
            end - 110.0,
            x(bar.low),
            x(bar.high),
            x(bar.low),
            middle - 5.0,
            x(bar.high),
            middle - 5.0,
            x(bar.high) + 6.0,
            middle + 4.0,
            number(bar.value),
            escape(&bar.note),
        );
        y += 34.0;
    }
    svg + "</svg>\n"
}

/// Latency in microseconds over the part of all requests: both axes logarithmic, the parts by what is left to 100 %.
pub fn percentiles(title: &str, lines: &[Line]) -> String {
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.1.max(1.0)));
    let low = 10_f64.powf(values().fold(f64::INFINITY, f64::min).log10().floor());
    let high = 10_f64.powf(values().fold(1.0, f64::max).log10().ceil());
    let (low, high) = if low.is_finite() && low < high { (low, high) } else { (1.0, 10.0) };
    // As far right as the rarest request of the longest run.
    let rare = |part: f64| -(1.0 - part).max(1e-7).log10();
    let below = lines.iter().flat_map(|line| &line.points).map(|point| point.0).filter(|part| *part < 1.0);
    let rarest = below.map(rare).fold(2.0, f64::max);
    let x = |part: f64| LEFT + rare(part).min(rarest) / rarest * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        HEIGHT - BOTTOM - (value.max(1.0) / low).log10() / (high / low).log10() * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = open(title, HEIGHT);
    for (part, name) in [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "99.999 %"),
    ] {
        if rare(part) <= rarest {
            grid_x(&mut svg, x(part), name);
        }
    }
    let mut value = low;
    while value <= high * 1.001 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a power of ten")]
        grid_y(&mut svg, y(value), &micros(value.round() as u64));
        value *= 10.0;
    }
    curves(&mut svg, lines, x, y);
    legend(&mut svg, lines);
    svg + "</svg>\n"
}

/// Values over time or rounds, from zero.
pub fn over(title: &str, unit: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let most = nice(points().map(|point| point.1).fold(0.0, f64::max));
    let first = points().map(|point| point.0).fold(1.0, f64::min).floor();
    let last = points().map(|point| point.0).fold(first + 1.0, f64::max);
    let x = |value: f64| LEFT + (value - first) / (last - first) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(title, HEIGHT);
    for step in 0..=4 {
        let value = most * f64::from(step) / 4.0;
        grid_y(&mut svg, y(value), &number(value));
    }
    let step = ((last - first) / 6.0).ceil().max(1.0);
    let mut at = first;
    while at <= last + 1e-9 {
        let name = if at + step > last { format!("{} {unit}", number(at)) } else { number(at) };
        grid_x(&mut svg, x(at), &name);
        at += step;
    }
    curves(&mut svg, lines, x, y);
    legend(&mut svg, lines);
    svg + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         aria-label=\"{title}\">\n<text class=\"title\" x=\"0\" y=\"14\">{title}</text>\n"
    )
}

fn grid_x(svg: &mut String, x: f64, name: &str) {
    let bottom = HEIGHT - BOTTOM;
    // A name at the edge must not hang over it.
    let anchor = if x > WIDTH - RIGHT - 20.0 { "end" } else { "middle" };
    let _ = writeln!(
        svg,
        "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#d8dee4\"/>\
         <text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        bottom + 16.0,
        escape(name)
    );
}

fn grid_y(svg: &mut String, y: f64, name: &str) {
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#d8dee4\"/>\
         <text class=\"quiet\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        LEFT - 6.0,
        y + 4.0,
        escape(name)
    );
}

fn curves(svg: &mut String, lines: &[Line], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
    for (line, (colour, dashes)) in lines.iter().zip(INKS.iter().cycle()) {
        let points: Vec<String> =
            line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            points.join(" ")
        );
    }
}

fn legend(svg: &mut String, lines: &[Line]) {
    for (index, (line, (colour, dashes))) in lines.iter().zip(INKS.iter().cycle()).enumerate() {
        // Three in a row.
        let place = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let (x, y) = (LEFT + place(index % 3) * 136.0, HEIGHT - 26.0 + place(index / 3) * 18.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {:.1}h22\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 4.0,
            x + 27.0,
            escape(&line.name)
        );
    }
}

/// The next higher of 1, 2, 4, 5 or 10 times a power of ten.
fn nice(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * unit)
        .find(|step| *step >= value)
        .unwrap_or(value)
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (value, end) in [(0.3, 1.0), (1.0, 1.0), (3.0, 4.0), (72_000.0, 100_000.0), (41.0, 50.0)] {
            assert_eq!(nice(value), end, "{value}");
        }
    }

    #[test]
    fn every_line_is_drawn_inside_its_plot() {
        let points = vec![(0.0, 90.0), (0.5, 120.0), (0.99, 4000.0), (0.9999, 90_000.0), (1.0, 250_000.0)];
        let svg = percentiles("t", &[Line { name: "a".to_owned(), points }]);
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut before = -1.0;
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{point}");
            assert!(x >= before, "{points}");
            before = x;
        }
    }
}
