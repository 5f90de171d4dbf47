//! Zone files: master files (RFC 1035 section 5) to records as they are sent.
//!
//! The text comes in, as everywhere in this crate; who reads the file is the appliance. `$ORIGIN` and `$TTL` (RFC 2308
//! section 4) hold, types that aren't known can be written as RFC 3597 says, and `$INCLUDE` is refused: a zone is one
//! file.
//!
//! ```
//! use millrace_config::zonefile::ZoneFile;
//!
//! let origin = "fn.example.".parse().unwrap();
//! let file = ZoneFile::parse(b"www 60 A 192.0.2.1\n    TXT \"a text\"\n", &origin, 30)?;
//! assert_eq!(&*file.records[0].owner, b"\x03www\x02fn\x07example\0");
//! assert_eq!((file.records[0].type_number, &file.records[0].data[..]), (1, &[192, 0, 2, 1][..]));
//! assert_eq!(file.records[1].ttl_seconds, 30);
//! # Ok::<(), millrace_config::zonefile::ZoneFileError>(())
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::base::iana::{Class, Rtype};
use domain::base::name::{Name, ParsedName, ToName};
use domain::base::rdata::{ComposeRecordData, ParseAnyRecordData};
use domain::dep::octseq::{Parser, octets::OctetsFrom};
use domain::rdata::{AllRecordData, ZoneRecordData};
use domain::zonefile::inplace::{Entry, ScannedRecord, Zonefile};
use thiserror::Error;

use crate::limits::{RECORDS_PER_ZONE_FILE_MAX, TTL_SECONDS_MAX, ZONE_FILE_BYTES_MAX};
use crate::value::name::DnsName;

/// What a zone file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneFile {
    /// Start of authority, if it has one.
    pub soa: Option<ZoneSoa>,
    /// All other records, in the order of the file.
    pub records: Vec<ZoneRecord>,
}

/// A record as it is sent, of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Its owner, in wire form and in the file's spelling.
    pub owner: Box<[u8]>,
    /// Its time to live.
    pub ttl_seconds: u32,
    /// TYPE (IANA DNS parameters).
    pub type_number: u16,
    /// RDATA, names in it uncompressed.
    pub data: Box<[u8]>,
}

/// Start of authority (RFC 1035 section 3.3.13). Names are in wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneSoa {
    /// MNAME.
    pub primary: Box<[u8]>,
    /// RNAME.
    pub contact: Box<[u8]>,
    /// SERIAL.
    pub serial: u32,
    /// REFRESH.
    pub refresh_seconds: u32,
    /// RETRY.
    pub retry_seconds: u32,
    /// EXPIRE.
    pub expire_seconds: u32,
    /// MINIMUM.
    pub minimum_ttl_seconds: u32,
}

/// Why a zone file can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct ZoneFileError {
    /// The line, counted from 1; where a record takes several, one of them.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl ZoneFile {
    /// Reads a zone file. Names without a final dot lie in `origin` until the file says otherwise, and records without a
    /// time to live have `ttl_seconds`.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(text: &[u8], origin: &DnsName, ttl_seconds: u32) -> Result<Self, ZoneFileError> {
        if text.len() > ZONE_FILE_BYTES_MAX {
            return Err(wrong(1, format!("a zone file has {ZONE_FILE_BYTES_MAX} bytes at most")));
        }
        // The scanner panics on some unfinished entries, an open parenthesis at the end among them: wrong files too.
        catch_unwind(AssertUnwindSafe(|| scan(text, origin, ttl_seconds))).unwrap_or_else(|_| {
            Err(wrong(
                1,
                "the file can't be read; look for a parenthesis or quote that is never closed".into(),
            ))
        })
    }
}

/// The record that stands for `data` in a zone file's line of this type, with everything but its data left open.
///
/// # Errors
/// Why the text isn't such a record's data.
pub(crate) fn record_data(data: &str, type_name: &str, origin: &DnsName) -> Result<ZoneRecord, String> {
    let line = format!("@ 0 IN {type_name} {data}\n");
    let file = ZoneFile::parse(line.as_bytes(), origin, 0).map_err(|error| error.problem)?;
    match (file.soa, <[ZoneRecord; 1]>::try_from(file.records)) {
        (None, Ok([record])) => Ok(record),
        _ => Err("it is more than one record's data".into()),
    }
}

fn scan(text: &[u8], origin: &DnsName, ttl_seconds: u32) -> Result<ZoneFile, ZoneFileError> {
    // The line before the file's first.
    let preamble = format!("$TTL {ttl_seconds}\n");
    let mut scanner = Zonefile::with_capacity(preamble.len() + text.len() + 1);
    scanner.extend_from_slice(preamble.as_bytes());
    scanner.extend_from_slice(text);
    // The scanner wants an end to the last line too.
    scanner.extend_from_slice(b"\n");
    scanner.set_default_class(Class::IN);
    scanner.set_origin(Name::octets_from(
        Name::from_octets(origin.to_wire()).map_err(|error| wrong(1, error.to_string()))?,
    ));
    let mut file = ZoneFile::default();
    // Where the scanner is shows in its errors only; other mistakes are given the line that it has come to.
    let line = |scanner: &Zonefile| {
        let read = scanner.current_offset().saturating_sub(preamble.len()).min(text.len());
        text[..read].iter().filter(|byte| **byte == b'\n').count().max(1)
    };
    loop {
        let record = match scanner.next_entry() {
            Ok(Some(Entry::Record(record))) => record,
            Ok(Some(Entry::Include { .. })) => {
                return Err(wrong(line(&scanner), "`$INCLUDE` isn't taken: a zone is one file".into()));
            }
            Ok(None) => return Ok(file),
            Err(error) => return Err(placed(&error.to_string())),
        };
        if record.class() != Class::IN {
            return Err(wrong(line(&scanner), format!("the class {} isn't served", record.class())));
        }
        if record.ttl().as_secs() > TTL_SECONDS_MAX as u32 {
            return Err(wrong(line(&scanner), format!("a time to live is above {TTL_SECONDS_MAX} seconds")));
        }
        if let ZoneRecordData::Soa(soa) = record.data() {
            if wire(record.owner()) != origin.to_wire().into() {
                return Err(wrong(line(&scanner), format!("the SOA isn't that of `{origin}`")));
            }
            if [soa.mname(), soa.rname()].iter().any(|name| !is_name(&wire(name))) {
                return Err(wrong(line(&scanner), "the SOA has a name with an empty label".into()));
            }
            let soa = ZoneSoa {
                primary: wire(soa.mname()),
                contact: wire(soa.rname()),
                serial: soa.serial().into_int(),
                refresh_seconds: soa.refresh().as_secs(),
                retry_seconds: soa.retry().as_secs(),
                expire_seconds: soa.expire().as_secs(),
                minimum_ttl_seconds: soa.minimum().as_secs(),
            };
            if file.soa.replace(soa).is_some() {
                return Err(wrong(line(&scanner), "a zone has one SOA".into()));
            }
        } else {
            if file.records.len() >= RECORDS_PER_ZONE_FILE_MAX {
                let problem = format!("a zone file has {RECORDS_PER_ZONE_FILE_MAX} records at most");
                return Err(wrong(line(&scanner), problem));
            }
            let record = self::record(&record);
            file.records.push(record.map_err(|kind| {
                wrong(
                    line(&scanner),
                    format!("a record of type {kind} has a name or data that can't be sent"),
                )
            })?);
        }
    }
}

fn record(record: &ScannedRecord) -> Result<ZoneRecord, Rtype> {
    let mut data = Vec::new();
    // Writing to memory can't fail; composing can be refused by data that are too long.
    record.data().compose_rdata(&mut data).map_err(|_| record.rtype())?;
    let owner = wire(record.owner());
    if data.len() > usize::from(u16::MAX) || !is_name(&owner) || !is_data(record.rtype(), &data) {
        return Err(record.rtype());
    }
    Ok(ZoneRecord {
        owner,
        ttl_seconds: record.ttl().as_secs(),
        type_number: record.rtype().to_int(),
        data: data.into(),
    })
}

/// A name's wire form, folded as owners are compared by it.
fn wire(name: &impl ToName) -> Box<[u8]> {
    let mut wire = Vec::with_capacity(usize::from(name.compose_len()));
    match name.compose(&mut wire) {
        Ok(()) => wire.make_ascii_lowercase(),
        // Memory takes any number of bytes.
        Err(never) => match never {},
    }
    wire.into()
}

/// Whether the bytes are exactly one name: the scanner takes two dots in a row for an empty label, which is the root's.
fn is_name(wire: &[u8]) -> bool {
    Name::from_slice(wire).is_ok()
}

/// Whether data, as composed from the scanner's or given as RFC 3597 allows, are those of their type to the last byte.
fn is_data(kind: Rtype, data: &[u8]) -> bool {
    let mut parser = Parser::from_ref(data);
    let Ok(parsed) = AllRecordData::<&[u8], ParsedName<&[u8]>>::parse_any_rdata(kind, &mut parser) else {
        return false;
    };
    let mut again = Vec::with_capacity(data.len());
    parser.remaining() == 0 && parsed.compose_rdata(&mut again).is_ok() && again == data
}

fn wrong(line: usize, problem: String) -> ZoneFileError {
    ZoneFileError { line, problem }
}

/// An error of the scanner's, which begins with line and column. The preamble is a line; and an error at the very end of a
/// line stands in the first column of the next.
fn placed(error: &str) -> ZoneFileError {
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
    let (line, column) = (number(), number());
    let line = line.saturating_sub(if column <= 1 { 2 } else { 1 }).max(1);
    wrong(line, parts.next().unwrap_or(error).trim().to_owned())
}
