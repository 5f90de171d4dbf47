//! A tree as a picture: from left to right, a column for each hop.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::text::Ids;
use super::{Tree, Way};

/// Pixels from hop to hop.
const COLUMN: usize = 170;
/// Pixels from line to line.
const ROW: usize = 44;
/// Pixels around everything.
const MARGIN: usize = 24;
/// Characters of a list of numbers before it is cut; the whole list is the text that a pointer shows.
const LABEL_MAX: usize = 20;

impl Tree {
    /// The tree as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let places = self.places();
        let columns = places.iter().map(|(column, _)| column + 1).max().unwrap_or(1);
        let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
        let (width, height) = (columns * COLUMN + 2 * MARGIN, rows * ROW + 2 * MARGIN);
        let at =
            |visit: usize| (MARGIN + places[visit].0 * COLUMN + 8, MARGIN + places[visit].1 * ROW + ROW / 2);
        let mut svg = String::new();
        let mut put =
            |text: core::fmt::Arguments<'_>| svg.write_fmt(text).expect("a string takes everything");
        put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
        ));
        for (visit, (from, way)) in
            self.visits().iter().enumerate().filter_map(|(at, visit)| Some((at, visit.from?)))
        {
            let ((x, y), (to_x, to_y)) = (at(from), at(visit));
            let bend = x.midpoint(to_x);
            let dashes = if way == Way::Tunnel { " stroke-dasharray=\"5 4\"" } else { "" };
            put(format_args!(
                "<path d=\"M{x} {y}C{bend} {y} {bend} {to_y} {to_x} {to_y}\" fill=\"none\" stroke=\"#888\"{dashes}/>\n"
            ));
        }
        for (number, visit) in self.visits().iter().enumerate() {
            let (x, y) = at(number);
            let colour = match visit {
                visit if visit.expired || !visit.unroutable.is_empty() => "#c33",
                visit if visit.delivered => "#283",
                _ => "#fff",
            };
            let mut label = String::new();
            write!(label, "{}", Ids(&visit.receivers)).expect("a string takes everything");
            let whole = label.clone();
            if label.len() > LABEL_MAX {
                label.truncate(LABEL_MAX);
                label.push('…');
            }
            let name = Escaped(&visit.name);
            put(format_args!(
                "<g><title>{name}: set {}, TTL {}, for {whole}</title>\
                 <circle cx=\"{x}\" cy=\"{y}\" r=\"6\" fill=\"{colour}\" stroke=\"#333\"/>\
                 <text x=\"{}\" y=\"{}\" font-weight=\"bold\">{name}</text>\
                 <text x=\"{}\" y=\"{}\" fill=\"#555\">{label}</text></g>\n",
                visit.si.0,
                visit.ttl,
                x + 10,
                y - 6,
                x + 10,
                y + 16,
            ));
        }
        put(format_args!("</svg>\n"));
        svg
    }

    /// Column and row of each visit: a row for each that sends nothing on, others beside the first that they sent.
    fn places(&self) -> Vec<(usize, usize)> {
        let mut places = vec![(0, 0); self.visits().len()];
        let mut row = 0;
        let mut stack: Vec<_> = self.roots().rev().map(|root| (root, 0)).collect();
        while let Some((visit, column)) = stack.pop() {
            places[visit] = (column, row);
            let before = stack.len();
            stack.extend(self.children(visit).rev().map(|child| (child, column + 1)));
            if stack.len() == before {
                row += 1;
            }
        }
        places
    }
}

/// Text that can't be taken for markup.
struct Escaped<'a>(&'a str);

impl core::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            letter => f.write_char(letter),
        })
    }
}
