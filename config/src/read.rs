//! Reads a parsed document into its raw form, and goes on after an error, so that one report names them all.
//!
//! What is wrong has been reported by the time a reader gives `None`; whoever gets it only passes it on.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::report::{Code, Diagnostic};
use crate::schema::prose;
use crate::value::ValueError;

/// A value of the document, with the bytes it stands at.
pub(crate) type Value<'d> = Spanned<DeValue<'d>>;

/// Something read, with the bytes it stood at.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
    /// Whether the file says it; a default stands at its table.
    pub(crate) given: bool,
    /// Whether nothing in it was wrong.
    pub(crate) sound: bool,
}

/// What can be read from a value.
pub(crate) trait Read: Sized {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self>;
}

/// Collects what is wrong, and knows which key is being read.
#[derive(Default)]
pub(crate) struct Reader {
    diagnostics: Vec<Diagnostic>,
    path: Vec<String>,
    /// First keys of the path that something wrong lies under.
    unsound: BTreeSet<String>,
}

/// One table being read; the twin of [`crate::schema::Table`].
pub(crate) struct Table<'t, 'd> {
    entries: &'t DeTable<'d>,
    span: Range<usize>,
    reader: &'t mut Reader,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, String)>,
}

impl Reader {
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.unsound.extend(self.path.first().cloned());
        self.diagnostics.push(diagnostic);
    }

    /// What was wrong, and which keys of the whole file it lay under.
    pub(crate) fn finish(self) -> (Vec<Diagnostic>, BTreeSet<String>) {
        (self.diagnostics, self.unsound)
    }

    /// The full name of the key being read: `service.hold.packets`.
    pub(crate) fn key(&self) -> String {
        self.path.join(".")
    }

    pub(crate) fn table<'t, 'd>(&'t mut self, value: &'t Value<'d>) -> Option<Table<'t, 'd>> {
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table {
                entries,
                span: value.span(),
                reader: self,
                known: Vec::new(),
                missing: Vec::new(),
            }),
            _ => self.wrong_type(value, "a table"),
        }
    }

    pub(crate) fn string<'v>(&mut self, value: &'v Value<'_>) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type(value, "a string"),
        }
    }

    /// Reads a string by `parse`, and reports why it can't be.
    pub(crate) fn parsed<T>(
        &mut self,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<T> {
        match parse(self.string(value)?) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let message = format!("`{}` has a value that can't be used", self.key());
                self.report(
                    Diagnostic::new(Code::BadValue, value.span(), message)
                        .label(error.problem)
                        .help(error.hint),
                );
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, value: &Value<'_>, min: i64, max: i64) -> Option<i64> {
        let DeValue::Integer(integer) = value.get_ref() else { return self.wrong_type(value, "an integer") };
        let read = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        if let Some(read) = read.filter(|n| (min..=max).contains(n)) {
            return Some(read);
        }
        let message = format!("`{}` is out of range", self.key());
        let help = format!("it is between {} and {}", Digits(min), Digits(max));
        self.report(
            Diagnostic::new(Code::OutOfRange, value.span(), message)
                .label("too small or too large")
                .help(help),
        );
        None
    }

    /// Reads one of `words`; one of `later` is refused as not built.
    pub(crate) fn word<T: Copy>(
        &mut self,
        value: &Value<'_>,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.string(value)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let choices = either(words.iter().map(|(word, _)| *word));
        if later.contains(&text) {
            let name = format!("`{} = \"{text}\"`", self.key());
            self.not_built(value.span(), &name, format!("use {choices}"));
            return None;
        }
        let all = words.iter().map(|(word, _)| *word).chain(later.iter().copied());
        let help = match similar(text, all) {
            Some(word) => format!("did you mean \"{word}\"? It is {choices}"),
            None => format!("it is {choices}"),
        };
        let message = format!("`{}` can't be \"{}\"", self.key(), text.escape_debug());
        self.report(
            Diagnostic::new(Code::BadValue, value.span(), message).label("not one of its words").help(help),
        );
        None
    }

    pub(crate) fn not_built(&mut self, span: Range<usize>, name: &str, help: impl Into<String>) {
        let message = format!("{name} isn't built yet");
        self.report(
            Diagnostic::new(Code::NotBuilt, span, message).label("this version can't do it").help(help),
        );
    }

    pub(crate) fn wrong_type<T>(&mut self, value: &Value<'_>, expected: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let message = format!("`{}` has the wrong type", self.key());
        let help = format!("write {expected}");
        self.report(
            Diagnostic::new(Code::WrongType, value.span(), message)
                .label(format!("this is {found}"))
                .help(help),
        );
        None
    }
}

impl Table<'_, '_> {
    pub(crate) fn required<T: Read>(&mut self, key: &'static str, doc: &[&str]) -> Option<At<T>> {
        if !self.entries.contains_key(key) {
            self.missing.push((key, prose(doc)));
        }
        self.optional(key, doc)
    }

    pub(crate) fn optional<T: Read>(&mut self, key: &'static str, _doc: &[&str]) -> Option<At<T>> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        self.reader.path.push(key.into());
        let read = At::read(value, self.reader);
        self.reader.path.pop();
        read
    }

    pub(crate) fn default<T: Read>(
        &mut self,
        key: &'static str,
        doc: &[&str],
        default: serde_json::Value,
    ) -> Option<At<T>> {
        if self.entries.contains_key(key) {
            return self.optional(key, doc);
        }
        self.known.push(key);
        // A default is read as the file would be, and stands where the table does.
        let text = toml_text(&default);
        let value = Spanned::new(self.span.clone(), DeValue::parse(&text).ok()?.into_inner());
        self.reader.path.push(key.into());
        let read = T::read(&value, self.reader);
        self.reader.path.pop();
        let read = read?;
        Some(At { value: read, span: self.span.clone(), given: false, sound: true })
    }

    pub(crate) fn later(&mut self, key: &'static str) {
        self.known.push(key);
        if let Some((at, _)) = self.entries.get_key_value(key) {
            let name = format!("`{}`", self.name(key));
            self.reader.not_built(at.span(), &name, "take it out; the rest of the file has been checked");
        }
    }

    /// Reports the keys that nobody asked for, and then those that should be there and aren't.
    pub(crate) fn close(mut self) {
        for at in self.entries.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let key = at.get_ref();
            let message = format!("there is no key `{}`", self.name(key).escape_debug());
            let absent = self.known.iter().copied().filter(|known| !self.entries.contains_key(*known));
            let help = match similar(key, absent) {
                Some(meant) => {
                    // The slip explains why the right key is missing: one mistake, one error.
                    self.missing.retain(|(missing, _)| *missing != meant);
                    format!("did you mean `{meant}`?")
                }
                None => format!(
                    "known here: {}",
                    self.known
                        .iter()
                        .copied()
                        .collect::<BTreeSet<_>>()
                        .into_iter()
                        .map(|k| format!("`{k}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            self.reader.report(
                Diagnostic::new(Code::UnknownKey, at.span(), message).label("unknown key").help(help),
            );
        }
        for (key, doc) in std::mem::take(&mut self.missing) {
            let message = format!("`{}` is missing", self.name(key));
            let help = format!("`{key}`: {doc}");
            self.reader.report(
                Diagnostic::new(Code::MissingKey, self.span.clone(), message)
                    .label("should be in here")
                    .help(help),
            );
        }
    }

    fn name(&self, key: &str) -> String {
        match self.reader.path.is_empty() {
            true => key.into(),
            false => format!("{}.{key}", self.reader.key()),
        }
    }
}

impl<T: Read> Read for At<T> {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let before = reader.diagnostics.len();
        let read = T::read(value, reader)?;
        Some(Self { value: read, span: value.span(), given: true, sound: reader.diagnostics.len() == before })
    }
}

/// Writes a default as TOML: numbers, booleans and plain strings are spelt as in JSON, tables aren't.
fn toml_text(default: &serde_json::Value) -> String {
    match default {
        serde_json::Value::Object(entries) => {
            let entries: Vec<_> =
                entries.iter().map(|(key, value)| format!("{key} = {}", toml_text(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// Words as a sentence takes them: `"a", "b" or "c"`.
pub(crate) fn either<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The candidate that a slip of the fingers is nearest to, if one is near at all.
pub(crate) fn similar<'w>(slip: &str, candidates: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // Longer than any key: comparing would cost the square of it and find nothing.
    if slip.len() > SLIP_LEN_MAX {
        return None;
    }
    let near = candidates.map(|word| (strsim::damerau_levenshtein(slip, word), word));
    let (distance, word) = near.min()?;
    // A third of the letters may be wrong: `adresses` is `addresses`, but `foo` isn't `cpu`.
    (distance * 3 <= word.len().max(slip.len())).then_some(word)
}

/// Longest word that a suggestion is sought for, in bytes.
const SLIP_LEN_MAX: usize = 64;

/// A number with its digits in groups of three, as the file may write it: `1_048_576`.
pub(crate) struct Digits(pub(crate) i64);

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        let mut grouped = String::with_capacity(digits.len() * 4 / 3);
        for (n, digit) in digits.chars().enumerate() {
            if n > 0 && (digits.len() - n).is_multiple_of(3) && digits.len() > 4 {
                grouped.push('_');
            }
            grouped.push(digit);
        }
        write!(f, "{}{grouped}", if self.0 < 0 { "-" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_strangers_are_not() {
        let keys = ["addresses", "mtu_bytes", "name"];
        assert_eq!(similar("adresses", keys.into_iter()), Some("addresses"));
        assert_eq!(similar("nmae", keys.into_iter()), Some("name"));
        assert_eq!(similar("colour", keys.into_iter()), None);
        assert_eq!(similar(&"a".repeat(1 << 20), keys.into_iter()), None);
    }

    #[test]
    fn numbers_are_grouped_as_toml_takes_them() {
        assert_eq!(
            [Digits(9216), Digits(1_048_576), Digits(-12_345)].map(|d| d.to_string()),
            ["9216", "1_048_576", "-12_345"]
        );
    }
}
