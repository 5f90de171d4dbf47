//! The File Delivery Table (RFC 6726 section 3.4.2): XML that names the files of a session.

use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};

const NAMESPACE: &str = "urn:IETF:metadata:2005:FLUTE:FDT";
/// A table is no longer than this, in bytes, and has no more files than fit.
pub(super) const LEN_MAX: u64 = 1 << 20;

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// When it expires: seconds of NTP time, since 1900.
    pub expires: u32,
    /// Whether no other file comes in this session.
    pub complete: bool,
    /// The files.
    pub files: Vec<File>,
}

/// A file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Its object.
    pub toi: u64,
    /// Its name: a URI.
    pub location: String,
    /// Its length in bytes,
    pub length: Option<u64>,
    /// and that of the object, if it is encoded.
    pub transfer_length: Option<u64>,
    /// Its media type.
    pub content_type: Option<String>,
    /// How it is encoded in the object: gzip, for instance.
    pub encoding: Option<String>,
    /// Its MD5, in base 64.
    pub md5: Option<String>,
}

/// XML that isn't a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It isn't XML, or no table.
    #[error("it isn't an FDT-Instance")]
    NotATable,
    /// A number isn't one, or what must be there isn't.
    #[error("an attribute is missing or isn't what it should be")]
    Attribute,
}

impl Table {
    /// As XML.
    #[must_use]
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::new(Vec::new());
        let mut put = |event| writer.write_event(event).expect("a vector takes all");
        put(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        let mut root = BytesStart::new("FDT-Instance");
        root.push_attribute(("xmlns", NAMESPACE));
        root.push_attribute(("Expires", &*self.expires.to_string()));
        if self.complete {
            root.push_attribute(("Complete", "true"));
        }
        put(Event::Start(root));
        for file in &self.files {
            let mut element = BytesStart::new("File");
            let number = |number: Option<u64>| number.map(|number| number.to_string());
            let attributes = [
                ("TOI", Some(file.toi.to_string())),
                ("Content-Location", Some(file.location.clone())),
                ("Content-Length", number(file.length)),
                ("Transfer-Length", number(file.transfer_length)),
                ("Content-Type", file.content_type.clone()),
                ("Content-Encoding", file.encoding.clone()),
                ("Content-MD5", file.md5.clone()),
            ];
            for (name, value) in attributes {
                if let Some(value) = value {
                    element.push_attribute((name, &*value));
                }
            }
            put(Event::Empty(element));
        }
        put(Event::End(BytesEnd::new("FDT-Instance")));
        String::from_utf8(writer.into_inner()).expect("written from strings")
    }

    /// Reads XML. Elements and attributes that aren't known are read over, whatever their namespace.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn from_xml(xml: &str) -> Result<Self, Unreadable> {
        let mut reader = Reader::from_str(xml);
        let mut table = None;
        let mut depth = 0usize;
        loop {
            let event = reader.read_event().map_err(|_| Unreadable::NotATable)?;
            match &event {
                Event::Start(element) | Event::Empty(element) => {
                    match (depth, element.local_name().as_ref(), &mut table) {
                        (0, "FDT-Instance", None) => table = Some(Self::read(element)?),
                        (1, "File", Some(table)) => table.files.push(File::read(element)?),
                        (0, ..) => return Err(Unreadable::NotATable),
                        _ => {}
                    }
                    depth += usize::from(matches!(event, Event::Start(_)));
                }
                Event::End(_) => depth = depth.checked_sub(1).ok_or(Unreadable::NotATable)?,
                Event::Eof if depth == 0 => return table.ok_or(Unreadable::NotATable),
                Event::Eof => return Err(Unreadable::NotATable),
                _ => {}
            }
        }
    }

    fn read(element: &BytesStart<'_>) -> Result<Self, Unreadable> {
        let expires = number(attribute(element, "Expires")?)?.ok_or(Unreadable::Attribute)?;
        let complete = attribute(element, "Complete")?.is_some_and(|value| value == "true" || value == "1");
        // NTP's seconds are 32 bits; who writes more means never.
        Ok(Self { expires: u32::try_from(expires).unwrap_or(u32::MAX), complete, files: Vec::new() })
    }
}

impl File {
    fn read(element: &BytesStart<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            toi: number(attribute(element, "TOI")?)?.ok_or(Unreadable::Attribute)?,
            location: attribute(element, "Content-Location")?.ok_or(Unreadable::Attribute)?,
            length: number(attribute(element, "Content-Length")?)?,
            transfer_length: number(attribute(element, "Transfer-Length")?)?,
            content_type: attribute(element, "Content-Type")?,
            encoding: attribute(element, "Content-Encoding")?,
            md5: attribute(element, "Content-MD5")?,
        })
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, Unreadable> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|_| Unreadable::Attribute)?;
        if attribute.key.as_ref() == name {
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| Unreadable::Attribute)?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

fn number(value: Option<String>) -> Result<Option<u64>, Unreadable> {
    value.map(|value| value.parse().map_err(|_| Unreadable::Attribute)).transpose()
}
