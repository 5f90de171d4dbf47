//! Figures as a picture: one panel for each share lost, cost over the number of nodes, both on logarithmic scales.

use std::fmt::Write;

/// A line of a panel.
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    /// Number of nodes, and packets for each source segment.
    pub(crate) points: Vec<(usize, f64)>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 46.0;
/// Costs from a thousandth of a packet to ten.
const DECADES: (f64, f64) = (-3.0, 1.0);

/// Panels side by side, each with a title.
pub(crate) fn plot(panels: &[(String, Vec<Curve>)]) -> String {
    let (width, legend) = (
        panels.len() as f64 * (WIDTH + MARGIN) + MARGIN,
        20.0 * panels.first().map_or(0, |p| p.1.len()) as f64,
    );
    let mut out = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| writeln!(out, "{line}").unwrap();
    let total = HEIGHT + 2.0 * MARGIN + legend;
    put(format_args!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" font-family="sans-serif" font-size="11">"#
    ));
    put(format_args!(r#"<rect width="{width}" height="{total}" fill="white"/>"#));
    for (at, (title, curves)) in panels.iter().enumerate() {
        let left = MARGIN + at as f64 * (WIDTH + MARGIN);
        let x = |nodes: usize| left + (nodes as f64).log2() / 8.0 * WIDTH;
        let y = |cost: f64| {
            let share = (cost.max(1e-9).log10() - DECADES.0) / (DECADES.1 - DECADES.0);
            MARGIN + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
        };
        put(format_args!(r#"<text x="{left}" y="30" font-size="13">{title}</text>"#));
        for decade in DECADES.0 as i32..=DECADES.1 as i32 {
            let (cost, height) = (10f64.powi(decade), y(10f64.powi(decade)));
            let right = left + WIDTH;
            put(format_args!("<path d=\"M{left} {height:.1}H{right}\" stroke=\"#ccc\"/>"));
            let label = left - 4.0;
            put(format_args!(r#"<text x="{label}" y="{:.1}" text-anchor="end">{cost}</text>"#, height + 4.0));
        }
        for nodes in [1, 4, 16, 64, 256] {
            let low = MARGIN + HEIGHT + 16.0;
            put(format_args!(r#"<text x="{:.1}" y="{low}" text-anchor="middle">{nodes}</text>"#, x(nodes)));
        }
        for curve in curves {
            let points: Vec<_> =
                curve.points.iter().map(|(n, cost)| format!("{:.1},{:.1}", x(*n), y(*cost))).collect();
            let dash = if curve.dashed { r#" stroke-dasharray="5 3""# } else { "" };
            let (points, colour) = (points.join(" "), curve.colour);
            put(format_args!(
                r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dash}/>"#
            ));
        }
    }
    for (at, curve) in
        panels.iter().flat_map(|panel| &panel.1).take(panels.first().map_or(0, |p| p.1.len())).enumerate()
    {
        let (y, colour, name) = (HEIGHT + 2.0 * MARGIN + 20.0 * at as f64, curve.colour, curve.name);
        let dash = if curve.dashed { r#" stroke-dasharray="5 3""# } else { "" };
        put(format_args!("<path d=\"M{MARGIN} {y}h40\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>"));
        put(format_args!(r#"<text x="{}" y="{}">{name}</text>"#, MARGIN + 48.0, y + 4.0));
    }
    put(format_args!("</svg>"));
    out
}
