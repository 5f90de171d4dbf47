//! A report as people read it, and as programs do.

use std::fmt::{self, Write};

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use serde_json::{Value, json};

use super::{Diagnostic, Report};

/// Columns that the rendered report takes at most; help texts are wrapped to it.
const WIDTH_COLUMNS: usize = 110;

impl Report {
    /// For a person: each error with the lines it is in, underlined, and a line that counts them.
    pub fn human(&self, colour: bool) -> String {
        let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH_COLUMNS).with_links(false);
        let source = NamedSource::new(&self.name, self.text.clone());
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            let shown = Shown { diagnostic, source: (!self.text.is_empty()).then_some(&source) };
            // Writing to a string fails only if the source refuses a span, and spans are within the text.
            if handler.render_report(&mut out, &shown).is_err() {
                let _ = writeln!(out, "{shown}");
            }
            out.push('\n');
        }
        let errors = match self.diagnostics.len() {
            1 => "1 error".into(),
            n => format!("{n} errors"),
        };
        let _ = writeln!(out, "{errors} in {}", self.name);
        out
    }

    /// For a program: an array with an object for each error. Its members are `code`, `severity` (always `error`),
    /// `message`, `file`, `line` and `column` (counted from 1, in characters), `length` (in characters), `label`,
    /// `help` (a string or null) and `related` (objects with `line`, `column`, `length` and `label`).
    pub fn to_json(&self) -> Value {
        let place = |span: &std::ops::Range<usize>, label: &str| {
            let before = &self.text[..span.start];
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            json!({
                "line": before.matches('\n').count() + 1,
                "column": before[line_start..].chars().count() + 1,
                "length": self.text[span.clone()].chars().count(),
                "label": label,
            })
        };
        let errors = self.diagnostics.iter().map(|d| {
            let mut error = place(&d.span, &d.label);
            error["code"] = d.code.as_str().into();
            error["severity"] = "error".into();
            error["message"] = d.message.as_str().into();
            error["file"] = self.name.as_str().into();
            error["help"] = d.help.as_deref().into();
            error["related"] = d.related.iter().map(|(span, label)| place(span, label)).collect();
            error
        });
        errors.collect()
    }
}

/// A diagnostic together with its source, as `miette` wants them.
struct Shown<'r> {
    diagnostic: &'r Diagnostic,
    source: Option<&'r NamedSource<String>>,
}

impl miette::Diagnostic for Shown<'_> {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<Severity> {
        Some(Severity::Error)
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source?;
        let d = self.diagnostic;
        let label = Some(d.label.clone()).filter(|label| !label.is_empty());
        let primary = LabeledSpan::new_primary_with_span(label, d.span.clone());
        let related = d
            .related
            .iter()
            .map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diagnostic.fmt(f)
    }
}

impl std::error::Error for Shown<'_> {}
