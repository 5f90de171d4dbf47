//! From the file's text to a [`Config`], or to the report of everything that is wrong with it.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::check::Checker;
use crate::limits::FILE_BYTES_MAX;
use crate::model::Config;
use crate::raw;
use crate::read::{Read, Reader};
use crate::report::{Code, Diagnostic, Report};

impl Config {
    /// Reads the file called `name` with these bytes. The name is for the report alone; nothing is opened.
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Result<Self, Report> {
        Self::parse(name, text_of(name, bytes)?)
    }

    /// Reads the file called `name` with this text. The name is for the report alone; nothing is opened.
    pub fn parse(name: &str, text: &str) -> Result<Self, Report> {
        let (diagnostics, config) = read(text);
        match config {
            Some(config) if diagnostics.is_empty() => Ok(config),
            _ if diagnostics.is_empty() => {
                unreachable!("a part that gives no value has reported why")
            }
            _ => Err(Report::new(name, text, diagnostics)),
        }
    }
}

fn read(text: &str) -> (Vec<Diagnostic>, Option<Config>) {
    let help = "it needs `schema_version = 1`, a `[site]` with a `name`, and at least one `[[port]]`";
    let (mut diagnostics, file, unsound) = document::<raw::File>(text, help);
    let Some(unsound) = unsound else { return (diagnostics, None) };
    let mut checker = Checker::new(unsound);
    let config = file.and_then(|file| checker.file(&file));
    diagnostics.append(&mut checker.diagnostics);
    (diagnostics, config)
}

/// The text that these bytes of a file are.
pub(crate) fn text_of<'b>(name: &str, bytes: &'b [u8]) -> Result<&'b str, Report> {
    str::from_utf8(bytes).map_err(|error| {
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        // What is before the mistake can be shown; a mark stands where the mistake is.
        let text = format!("{}{}", String::from_utf8_lossy(valid), char::REPLACEMENT_CHARACTER);
        let byte = rest.first().copied().unwrap_or_default();
        let diagnostic = Diagnostic::new(Code::Encoding, valid.len()..text.len(), "the file isn't UTF-8")
            .label(format!("byte 0x{byte:02x} can't stand here"))
            .help("save the file as UTF-8");
        Report::new(name, &text, vec![diagnostic])
    })
}

/// What a file says in its raw form, all that is wrong with it, and under which of its keys something unreadable lay: `None`
/// where nothing more can be made of it. `empty` is the help for a file without a key.
pub(crate) fn document<T: Read>(
    text: &str,
    empty: &str,
) -> (Vec<Diagnostic>, Option<T>, Option<BTreeSet<String>>) {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes", text.len());
        let help = format!("a configuration has {FILE_BYTES_MAX} bytes at most");
        let diagnostic = Diagnostic::new(Code::TooLarge, 0..0, message).label("too large").help(help);
        return (vec![diagnostic], None, None);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() && document.get_ref().is_empty() {
        let diagnostic = Diagnostic::new(Code::Empty, 0..0, "the file says nothing").help(empty);
        return (vec![diagnostic], None, None);
    }
    let mut reader = Reader::default();
    let file = T::read(&Spanned::new(0..0, DeValue::Table(document.into_inner())), &mut reader);
    let (diagnostics, unsound) = reader.finish();
    if !errors.is_empty() {
        return (with_syntax(text, &errors, diagnostics), None, None);
    }
    (diagnostics, file, Some(unsound))
}

/// Adds the errors of syntax. What was read from the lines they are on isn't trusted, nor is that a key is missing; what
/// was found elsewhere is.
fn with_syntax(text: &str, errors: &[toml::de::Error], mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let line =
        |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
    let spans: Vec<_> = errors.iter().map(|error| error.span().unwrap_or(text.len()..text.len())).collect();
    let broken: Vec<_> = spans.iter().map(|span| line(span.start)..=line(span.end)).collect();
    diagnostics.retain(|diagnostic| {
        let at = line(diagnostic.span.start);
        diagnostic.code != Code::MissingKey && !broken.iter().any(|lines| lines.contains(&at))
    });
    diagnostics.extend(errors.iter().zip(spans).map(|(error, span)| {
        let (message, expected) = match error.message().split_once(", expected ") {
            Some((message, expected)) => (message, Some(expected)),
            None => (error.message(), None),
        };
        let diagnostic = Diagnostic::new(Code::Syntax, span, format!("not TOML: {message}")).label("here");
        match expected {
            Some(expected) => diagnostic.help(format!("expected {expected}")),
            None => diagnostic,
        }
    }));
    diagnostics
}
