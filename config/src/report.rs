//! What is wrong with a file: every error in one report, each with its place, a stable code and a hint.

mod render;

use std::fmt;
use std::ops::Range;

use crate::grammar::words;

/// Where in the file something was said. Two of them are always equal: moving a line changes nothing of what the
/// configuration means.
#[derive(Clone, Debug)]
pub struct Origin(Range<usize>);

/// Everything that is wrong with one file, in the order of the file. Never empty.
#[derive(Clone, Debug)]
pub struct Report {
    name: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Which kind of mistake; stable between versions.
    pub code: Code,
    /// The mistake in one sentence, with the key's full name.
    pub message: String,
    /// The bytes of the file that are wrong; within its text, at the borders of characters. Empty where a key is
    /// missing from the whole file.
    pub span: Range<usize>,
    /// What is wrong at that place, in a few words.
    pub label: String,
    /// Other places that belong to it, each with a few words.
    pub related: Vec<(Range<usize>, String)>,
    /// What to do about it.
    pub help: Option<String>,
}

words! {
    /// The kinds of mistakes. Their names are stable: scripts may depend on them.
    pub enum Code {
        /// The file can't be opened or read.
        "config::unreadable" => Unreadable,
        /// The file is larger than any configuration should be.
        "config::too_large" => TooLarge,
        /// The file isn't UTF-8.
        "config::encoding" => Encoding,
        /// The file holds no key at all.
        "config::empty" => Empty,
        /// The file isn't TOML.
        "config::syntax" => Syntax,
        /// A key that doesn't exist.
        "config::unknown_key" => UnknownKey,
        /// A key that must be there and isn't.
        "config::missing_key" => MissingKey,
        /// A value of the wrong type, such as a string for a number.
        "config::wrong_type" => WrongType,
        /// A value of the right type that can't be used.
        "config::bad_value" => BadValue,
        /// A number below or above what is possible.
        "config::out_of_range" => OutOfRange,
        /// A key or word that is agreed, but that this version can't carry out.
        "config::not_built" => NotBuilt,
        /// A name, address or key that is given twice.
        "config::duplicate" => Duplicate,
        /// Two networks that share addresses.
        "config::overlap" => Overlap,
        /// A name that nothing in the file has.
        "config::unknown_name" => UnknownName,
        /// An address that no port reaches directly.
        "config::not_on_link" => NotOnLink,
        /// A DNS name that lies in none of the zones.
        "config::outside_zone" => OutsideZone,
        /// Keys that are right alone, but not together.
        "config::conflict" => Conflict,
        /// A link to another host that would be unprotected.
        "config::insecure" => Insecure,
        /// CPUs that this machine doesn't have, or that are offline.
        "plan::no_such_cpu" => NoSuchCpu,
        /// A list of CPUs that takes a part of a physical core.
        "plan::split_core" => SplitCore,
        /// More cores asked for than there are.
        "plan::too_few_cores" => TooFewCores,
        /// A text that doesn't describe a machine's topology.
        "plan::bad_topology" => BadTopology,
    }
}

impl Origin {
    pub(crate) fn new(span: Range<usize>) -> Self {
        Self(span)
    }

    /// The bytes of the file that said it.
    pub fn span(&self) -> Range<usize> {
        self.0.clone()
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Diagnostic {
    pub(crate) fn new(code: Code, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), span, label: String::new(), related: Vec::new(), help: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Report {
    /// A report about the file `name` with this text. Diagnostics are put in the order of the file, and their spans
    /// within the text.
    ///
    /// # Panics
    ///
    /// If there is no diagnostic: then there is nothing to report.
    pub fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        assert!(!diagnostics.is_empty(), "a report has at least one diagnostic");
        for diagnostic in &mut diagnostics {
            diagnostic.span = within(text, &diagnostic.span);
            for (span, _) in &mut diagnostic.related {
                *span = within(text, span);
            }
        }
        diagnostics.sort_by(|a, b| {
            (a.span.start, a.span.end, a.code, &a.message).cmp(&(
                b.span.start,
                b.span.end,
                b.code,
                &b.message,
            ))
        });
        Self { name: name.into(), text: text.into(), diagnostics }
    }

    /// A report that the file couldn't be read, with the system's reason.
    pub fn unreadable(name: &str, reason: &std::io::Error) -> Self {
        let mut diagnostic =
            Diagnostic::new(Code::Unreadable, 0..0, format!("`{name}` can't be read: {reason}"));
        diagnostic.help = match reason.kind() {
            std::io::ErrorKind::NotFound => {
                Some("check the path; a relative one begins at the current folder".into())
            }
            std::io::ErrorKind::PermissionDenied => {
                Some("check who may read the file and the folders above it".into())
            }
            std::io::ErrorKind::IsADirectory => Some("give the file itself, not the folder it is in".into()),
            _ => None,
        };
        Self::new(name, "", vec![diagnostic])
    }

    /// The name of the file, as the caller gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong, in the order of the file.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for Report {
    /// The whole report for a person, without colours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.human(false))
    }
}

impl std::error::Error for Report {}

/// Moves a span into the text and to the borders of characters.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor(text, span.start);
    start..floor(text, span.end).max(start)
}

fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
