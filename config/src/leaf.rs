//! What single values of the file can be: how each type of a leaf reads itself, and how the schema describes it.

mod bier;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::limits::{CORES_MAX, PATH_BYTES_MAX};
use crate::read::{At, Digits, Read, Reader, Value};
use crate::report::{Code, Diagnostic};
use crate::value::ValueError;
pub(crate) use bier::{BiftIdList, BitStringBits, Group};

use crate::value::address::{InterfaceAddress, MacAddr, Prefix, address, host};
use crate::value::cpus::CpuSet;
use crate::value::http::{HttpPath, StatusRange};
use crate::value::name::{DnsName, Name};
use crate::value::port::{PortRange, ServicePort, socket};
use crate::value::reference::{Device, Endpoint, SecretRef};
use crate::value::server_id::ServerId;

/// An integer between two bounds, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int<const MIN: i64, const MAX: i64>(i64);

/// Several of something: an array, or tables under the same `[[header]]`. Those that are wrong are left out.
#[derive(Debug)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(Vec<At<T>>);

/// A unicast address of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostAddr(pub(crate) IpAddr);

/// An address and port to listen on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket(pub(crate) SocketAddr);

/// A path in the file system.
#[derive(Clone, Debug)]
pub(crate) struct FilePath(pub(crate) PathBuf);

/// How many cores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Number(NonZeroU32),
    Rest,
}

/// The version of the file's surface: there is one so far.
#[derive(Debug)]
pub(crate) struct SchemaVersion;

/// A type whose values are written as strings, with its description and an example for the schema.
macro_rules! text {
    ($Type:ty, $parse:expr, $name:literal, $about:literal, $example:literal) => {
        impl Read for $Type {
            fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
                reader.parsed(value, $parse)
            }
        }

        impl JsonSchema for $Type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $about, "examples": [$example] })
            }
        }
    };
}

text!(
    Name,
    str::parse,
    "Name",
    "1 to 63 letters, digits, `-`, `_` or `.`, the first a letter or digit.",
    "hello"
);
text!(DnsName, str::parse, "DnsName", "An absolute DNS name, with its final dot.", "hello.fn.example.");
text!(Prefix, str::parse, "Prefix", "A network: address without host bits, and length.", "192.0.2.0/24");
text!(
    InterfaceAddress,
    str::parse,
    "InterfaceAddress",
    "An address of ours, and its network's length.",
    "192.0.2.1/24"
);
text!(MacAddr, str::parse, "MacAddr", "The Ethernet address of one station.", "02:00:00:00:00:07");
text!(ServicePort, str::parse, "ServicePort", "Protocol and port: `tcp/80`, `udp/443`.", "tcp/80");
text!(PortRange, str::parse, "PortRange", "First and last port.", "16384-65535");
text!(HttpPath, str::parse, "HttpPath", "The path of a request over HTTP.", "/healthz");
text!(StatusRange, str::parse, "StatusRange", "First and last status code of HTTP, or one.", "200-399");
text!(ServerId, str::parse, "ServerId", "The bytes of a QUIC server's id.", "0x0102");
text!(CpuSet, cpus, "CpuSet", "CPUs as the kernel lists them.", "2-5,18-21");
text!(Device, str::parse, "Device", "A PCI address, or a vdev of DPDK.", "net_af_xdp0,iface=wan");
text!(
    Endpoint,
    str::parse,
    "Endpoint",
    "`https://host:port`, or `http://` for plain text.",
    "https://orchestrator.example:7443"
);
text!(
    HostAddr,
    |text| address(text).and_then(host).map(HostAddr),
    "HostAddr",
    "A unicast address.",
    "192.0.2.1"
);
text!(Socket, |text| socket(text).map(Socket), "Socket", "Address and port.", "127.0.0.1:9464");
text!(
    FilePath,
    path,
    "FilePath",
    "A path; a relative one begins at this file's folder.",
    "functions/hello.wasm"
);

fn cpus(text: &str) -> Result<CpuSet, ValueError> {
    match text.parse::<CpuSet>() {
        Ok(set) if set.is_empty() => {
            Err(ValueError::new("no CPU is named", "write numbers and ranges, as in `2-5,18-21`"))
        }
        read => read,
    }
}

fn path(text: &str) -> Result<FilePath, ValueError> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') {
        return Err(ValueError::new("not a path", "write the path of a file"));
    }
    Ok(FilePath(text.into()))
}

impl<const MIN: i64, const MAX: i64> Int<MIN, MAX> {
    const FITS: () =
        assert!(MIN >= 0 && MIN <= MAX && MAX <= u32::MAX as i64, "bounds must fit the checked types");

    pub(crate) fn get(self) -> u32 {
        // `FITS` holds for every range that is used, and `read` keeps to the range.
        let () = Self::FITS;
        self.0 as u32
    }

    /// One that may be beyond 32 bits.
    pub(crate) fn wide(self) -> u64 {
        const { assert!(MIN >= 0, "it has no sign") };
        self.0 as u64
    }

    pub(crate) fn seconds(self) -> Duration {
        Duration::from_secs(self.get().into())
    }

    pub(crate) fn millis(self) -> Duration {
        Duration::from_millis(self.get().into())
    }
}

impl<const MIN: i64, const MAX: i64> Read for Int<MIN, MAX> {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        reader.integer(value, MIN, MAX).map(Self)
    }
}

impl<const MIN: i64, const MAX: i64> JsonSchema for Int<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Int{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<T, const MIN: usize, const MAX: usize> List<T, MIN, MAX> {
    pub(crate) fn into_items(self) -> Vec<At<T>> {
        self.0
    }
}

impl<T, const MIN: usize, const MAX: usize> Deref for List<T, MIN, MAX> {
    type Target = [At<T>];

    fn deref(&self) -> &[At<T>] {
        &self.0
    }
}

impl<T: Read, const MIN: usize, const MAX: usize> Read for List<T, MIN, MAX> {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else { return reader.wrong_type(value, "an array") };
        if !(MIN..=MAX).contains(&items.len()) {
            let (message, help) = match items.len() < MIN {
                true => (format!("`{}` is empty", reader.key()), format!("give at least {MIN}")),
                false => (
                    format!("`{}` has {} entries", reader.key(), items.len()),
                    format!("there may be {} at most", Digits(MAX as i64)),
                ),
            };
            reader.report(
                Diagnostic::new(Code::OutOfRange, value.span(), message)
                    .label("too few or too many")
                    .help(help),
            );
            return None;
        }
        Some(Self(items.iter().filter_map(|item| At::read(item, reader)).collect()))
    }
}

impl<T: JsonSchema, const MIN: usize, const MAX: usize> JsonSchema for List<T, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}List", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>(), "minItems": MIN, "maxItems": MAX })
    }
}

impl Read for bool {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            _ => reader.wrong_type(value, "true or false"),
        }
    }
}

impl Read for String {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        reader.string(value).map(str::to_owned)
    }
}

impl Read for Count {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => reader.word(value, &[("rest", Self::Rest)], &[]),
            DeValue::Integer(_) => {
                let number = Int::<1, CORES_MAX>::read(value, reader)?;
                NonZeroU32::new(number.get()).map(Self::Number)
            }
            _ => reader.wrong_type(value, "a number, or \"rest\""),
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "type": "integer", "minimum": 1, "maximum": CORES_MAX }, { "const": "rest" }] })
    }
}

impl Read for SecretRef {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let text = reader.string(value)?;
        if text.starts_with("credential:") || text.starts_with("env:") {
            let name = format!("`{} = \"{}\"`", reader.key(), text.escape_debug());
            reader.not_built(value.span(), &name, "use `file:` and a path");
            return None;
        }
        reader.parsed(value, |text| {
            let wrong = || {
                ValueError::new(
                    "not a reference to a file",
                    "write `file:` and a path, as in `file:site.pem`",
                )
            };
            path(text.strip_prefix("file:").ok_or_else(wrong)?).map(|FilePath(path)| Self::File(path))
        })
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let about = "Where it is kept: `file:` and a path. `credential:` and `env:` aren't built yet.";
        json_schema!({ "type": "string", "pattern": "^(file|credential|env):.", "description": about })
    }
}

impl Read for SchemaVersion {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let DeValue::Integer(version) = value.get_ref() else {
            return reader.wrong_type(value, "an integer");
        };
        if version.as_str() == "1" {
            return Some(Self);
        }
        let message = "this version can't read the file's schema";
        reader.report(
            Diagnostic::new(Code::BadValue, value.span(), message)
                .label("unknown schema")
                .help("it reads `schema_version = 1`"),
        );
        None
    }
}

impl JsonSchema for SchemaVersion {
    fn schema_name() -> Cow<'static, str> {
        "SchemaVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1 })
    }
}
