//! A chart of lines over a logarithmic horizontal axis, as SVG.

use std::fmt::Write as _;

use crate::table;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
/// Apart for those, too, who see fewer colours (Okabe and Ito's).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    Linear,
    Logarithmic,
}

pub struct Line {
    pub points: Vec<(f64, f64)>,
    name: String,
    colour: usize,
    is_dashed: bool,
}

impl Line {
    pub fn new(name: &str, colour: usize, is_dashed: bool, mut points: Vec<(f64, f64)>) -> Self {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self { points, name: name.to_owned(), colour, is_dashed }
    }
}

pub struct Chart {
    pub title: String,
    pub below: String,
    pub vertical: Axis,
    pub lines: Vec<Line>,
}

impl Chart {
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let [left, right] = bounds(points().map(|point| point.0)).map(f64::log10);
        let [low, high] = bounds(points().map(|point| point.1));
        let [bottom, top] = match self.vertical {
            Axis::Linear => [0.0, high * 1.05],
            Axis::Logarithmic => [low.log10().floor(), high.log10().ceil()],
        };
        let across = |x: f64| LEFT + (x.log10() - left) / (right - left).max(1e-9) * (WIDTH - LEFT - RIGHT);
        let height = |y: f64| HEIGHT - BOTTOM - (y - bottom) / (top - bottom).max(1e-9) * (HEIGHT - TOP - BOTTOM);
        let up = |y: f64| height(if self.vertical == Axis::Linear { y } else { y.log10() });
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, LEFT, TOP - 18.0, "start", &self.title);
        text(&mut svg, LEFT, HEIGHT - 14.0, "start", &self.below);
        for y in self.ticks(bottom, top) {
            rule(&mut svg, [LEFT, up(y), WIDTH - RIGHT, up(y)]);
            text(&mut svg, LEFT - 6.0, up(y) + 4.0, "end", &plain(y));
        }
        for decade in left.ceil() as i32..=right.floor() as i32 {
            let x = across(10_f64.powi(decade));
            rule(&mut svg, [x, TOP, x, HEIGHT - BOTTOM]);
            text(&mut svg, x, HEIGHT - BOTTOM + 16.0, "middle", &table::count(10_u64.pow(decade.unsigned_abs())));
        }
        for (row, line) in self.lines.iter().filter(|line| !line.points.is_empty()).enumerate() {
            let place = |&(x, y): &(f64, f64)| [across(x), up(y)];
            draw(&mut svg, line, &line.points.iter().map(place).collect::<Vec<_>>());
            let y = TOP + 10.0 + 20.0 * row as f64;
            let x = WIDTH - RIGHT + 16.0;
            draw(&mut svg, line, &[[x, y], [x + 30.0, y]]);
            text(&mut svg, x + 38.0, y + 4.0, "start", &line.name);
        }
        svg + "</svg>\n"
    }

    /// Where the vertical axis is labelled.
    fn ticks(&self, bottom: f64, top: f64) -> Vec<f64> {
        match self.vertical {
            Axis::Logarithmic => (bottom as i32..=top as i32).map(|decade| 10_f64.powi(decade)).collect(),
            Axis::Linear => {
                let decade = 10_f64.powf((top / 5.0).log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade).into_iter();
                let step = step.filter(|step| top / step <= 8.0).fold(10.0 * decade, f64::min);
                (0..=(top / step) as u32).map(|count| f64::from(count) * step).collect()
            }
        }
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)])
}

fn plain(value: f64) -> String {
    if value >= 1.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value}") }
}

fn rule(svg: &mut String, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(svg, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>");
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\">{text}</text>");
}

fn draw(svg: &mut String, line: &Line, points: &[[f64; 2]]) {
    let colour = COLOURS[line.colour % COLOURS.len()];
    let dashes = if line.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    let path: Vec<_> = points.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
    let _ =
        writeln!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>", path.join("L"));
}
