//! Repair requests (RFC 5740 section 4.3.1): the content of NORM_NACK. Each names objects, blocks or segments one by
//! one, as ranges, or says how many segments of a block are missing.

use super::object::PayloadId;
use super::{FEC_ID, Malformed, ObjectId};

/// How a request names what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One by one.
    Items,
    /// First and last, pair by pair.
    Ranges,
    /// A block and a count.
    Erasures,
}

/// What a request's names mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Segments.
    Segment,
    /// Whole blocks.
    Block,
    /// The NORM_INFO of objects alone.
    Info,
    /// Whole objects.
    Object,
}

const FLAG_SEGMENT: u8 = 0x01;
const FLAG_BLOCK: u8 = 0x02;
const FLAG_INFO: u8 = 0x04;
const FLAG_OBJECT: u8 = 0x08;
const HEAD_LEN: usize = 4;
const ITEM_LEN: usize = 8;

/// One name: of an object, a block, a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// The object.
    pub object: ObjectId,
    /// Block and segment; in the form [`Form::Erasures`] the segment is the count.
    pub id: PayloadId,
}

impl Item {
    fn read(at: &[u8; ITEM_LEN]) -> Result<Self, Malformed> {
        let [fec, _, high, low, b0, b1, b2, segment] = *at;
        if fec != FEC_ID {
            return Err(Malformed::Fec);
        }
        let object = ObjectId(u16::from_be_bytes([high, low]));
        Ok(Self { object, id: PayloadId::read(&[b0, b1, b2, segment]) })
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend([FEC_ID, 0]);
        out.extend(self.object.0.to_be_bytes());
        self.id.write(out);
    }
}

/// What one request asks for, both ends included. First and last are the same except in ranges; a range may cover
/// more than there is, and objects wrap around: who expands it has to clip it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub first: Item,
    /// Where it ends.
    pub last: Item,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// How it names.
    pub form: Form,
    /// What it names.
    pub level: Level,
    /// Whether the NORM_INFO of the objects is missing, too.
    pub info: bool,
    items: &'a [[u8; ITEM_LEN]],
}

impl<'a> Request<'a> {
    fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let (&[form, flags, high, low], rest) =
            bytes.split_first_chunk::<HEAD_LEN>().ok_or(Malformed::Cut)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed::Cut)?;
        let (items, []) = content.as_chunks() else { return Err(Malformed::List) };
        let form = match form {
            1 => Form::Items,
            2 if items.len().is_multiple_of(2) => Form::Ranges,
            3 => Form::Erasures,
            _ => return Err(Malformed::Request),
        };
        // The finest level that is flagged, as NRL's library reads it.
        let level = if flags & FLAG_SEGMENT != 0 {
            Level::Segment
        } else if flags & FLAG_BLOCK != 0 {
            Level::Block
        } else if flags & FLAG_OBJECT != 0 {
            Level::Object
        } else if flags & FLAG_INFO != 0 {
            Level::Info
        } else {
            return Err(Malformed::Request);
        };
        for item in items {
            Item::read(item)?;
        }
        Ok((Self { form, level, info: flags & FLAG_INFO != 0, items }, rest))
    }

    /// What it asks for.
    pub fn spans(self) -> impl Iterator<Item = Span> + 'a {
        let step = if self.form == Form::Ranges { 2 } else { 1 };
        // Items were read once already, by `Requests::check`.
        self.items.chunks_exact(step).filter_map(move |pair| {
            let (first, last) = (Item::read(&pair[0]).ok()?, Item::read(&pair[step - 1]).ok()?);
            Some(Span { first, last })
        })
    }
}

/// The requests of a NORM_NACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests<'a>(&'a [u8]);

impl<'a> Requests<'a> {
    /// Checks each of them.
    pub(super) fn check(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = Request::read(rest)?.1;
        }
        Ok(Self(bytes))
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Request<'a>> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (request, after) = Request::read(rest).ok()?;
            rest = after;
            Some(request)
        })
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Writes requests, up to a length.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    bytes: Vec<u8>,
    len_max: usize,
    /// Where the last request begins, and what it is.
    last: Option<(usize, Form, Level, bool)>,
}

impl RequestBuilder {
    /// Of at most so many bytes: a receiver's NACK is no longer than a segment (RFC 5740 section 4.3.1).
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self { bytes: Vec::new(), len_max: len_max.min(usize::from(u16::MAX)), last: None }
    }

    /// Adds what is missing from `first` to `last`; with `info` the NORM_INFO of the object as well. Whether it had
    /// room; if not, nothing is changed.
    pub fn add(&mut self, level: Level, info: bool, span: Span) -> bool {
        let form = if span.first == span.last { Form::Items } else { Form::Ranges };
        self.put(form, level, info, span)
    }

    /// Adds how many segments of a block are missing, whichever they are.
    pub fn add_erasures(&mut self, item: Item) -> bool {
        self.put(Form::Erasures, Level::Segment, false, Span { first: item, last: item })
    }

    fn put(&mut self, form: Form, level: Level, info: bool, span: Span) -> bool {
        let new = self.last.is_none_or(|(_, f, l, i)| (f, l, i) != (form, level, info));
        let items = if form == Form::Ranges { 2 } else { 1 };
        if self.bytes.len() + usize::from(new) * HEAD_LEN + items * ITEM_LEN > self.len_max {
            return false;
        }
        if new {
            self.last = Some((self.bytes.len(), form, level, info));
            let code = match form {
                Form::Items => 1,
                Form::Ranges => 2,
                Form::Erasures => 3,
            };
            let flags = match level {
                Level::Segment => FLAG_SEGMENT,
                Level::Block => FLAG_BLOCK,
                Level::Info => FLAG_INFO,
                Level::Object => FLAG_OBJECT,
            } | if info { FLAG_INFO } else { 0 };
            self.bytes.extend([code, flags, 0, 0]);
        }
        span.first.write(&mut self.bytes);
        if form == Form::Ranges {
            span.last.write(&mut self.bytes);
        }
        let (start, ..) = self.last.expect("set above");
        let length = (self.bytes.len() - start - HEAD_LEN) as u16;
        self.bytes[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
        true
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was added.
    #[must_use]
    pub fn requests(&self) -> Requests<'_> {
        Requests(&self.bytes)
    }
}
