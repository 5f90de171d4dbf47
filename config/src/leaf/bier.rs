//! Values that BIER alone has: lengths of bit strings, BIFT-ids, groups.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use millrace_bier::bift_id::{BIFT_ID_MAX, BiftId};
use millrace_bier::id::{Bsl, Si};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::model::BiftIdForm;
use crate::read::{Read, Reader, Value};
use crate::report::{Code, Diagnostic};
use crate::value::ValueError;
use crate::value::address::address;
use crate::value::bfr_ids::BfrIds;

/// The length of bit strings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitStringBits(pub(crate) Bsl);

/// BIFT-ids, as the file has them.
#[derive(Clone, Debug)]
pub(crate) enum BiftIdList {
    /// The static form.
    Static,
    /// One for each of these sets, with where the file says so.
    Map(Vec<(Si, BiftId, Range<usize>)>),
}

impl BiftIdList {
    /// Without the places, in order.
    pub(crate) fn form(&self) -> BiftIdForm {
        let Self::Map(list) = self else { return BiftIdForm::Static };
        let mut ids: Vec<_> = list.iter().map(|(si, id, _)| (*si, *id)).collect();
        ids.sort_unstable();
        BiftIdForm::Map(ids)
    }
}

/// An IP multicast group that routers forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group(pub(crate) IpAddr);

impl Read for BitStringBits {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let bits = reader.integer(value, 64, 4096)?;
        let bsl = u32::try_from(bits).ok().and_then(Bsl::from_bits);
        if bsl.is_none() {
            let message = format!("`{}` can't be {bits}", reader.key());
            let help = "it is 64, 128, 256, 512, 1024, 2048 or 4096 (RFC 8296 section 2.1.2)";
            reader.report(
                Diagnostic::new(Code::BadValue, value.span(), message).label("not a length").help(help),
            );
        }
        bsl.map(Self)
    }
}

impl JsonSchema for BitStringBits {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BitStringBits".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": Bsl::ALL.map(Bsl::bits) })
    }
}

impl Read for BiftIdList {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        let entries = match value.get_ref() {
            DeValue::String(_) => return reader.word(value, &[("static", ())], &[]).map(|()| Self::Static),
            DeValue::Table(entries) => entries,
            _ => return reader.wrong_type(value, "\"static\", or a table as in `{ \"si 0\" = 1000 }`"),
        };
        let mut list = Vec::new();
        for (key, value) in entries.iter() {
            let digits = key.get_ref().strip_prefix("si ");
            let si = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(si) = si.and_then(|digits| digits.parse().ok()) else {
                let message = format!("`{}` has no set `{}`", reader.key(), key.get_ref().escape_debug());
                reader.report(
                    Diagnostic::new(Code::UnknownKey, key.span(), message)
                        .label("not a set identifier")
                        .help("write `\"si 0\"` to `\"si 255\"`"),
                );
                continue;
            };
            let id = reader.integer(value, 0, i64::from(BIFT_ID_MAX));
            let id = id.and_then(|id| u32::try_from(id).ok()).and_then(BiftId::new);
            list.extend(id.map(|id| (Si(si), id, value.span())));
        }
        Some(Self::Map(list))
    }
}

impl JsonSchema for BiftIdList {
    fn schema_name() -> Cow<'static, str> {
        "BiftIds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "\"static\", or the BIFT-id of each set: `{ \"si 0\" = 1000 }`.",
            "oneOf": [
                { "const": "static" },
                {
                    "type": "object",
                    "patternProperties": {
                        "^si [0-9]+$": { "type": "integer", "minimum": 0, "maximum": BIFT_ID_MAX }
                    },
                    "additionalProperties": false
                },
            ]
        })
    }
}

impl Read for Group {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        reader.parsed(value, |text| {
            let group = address(text)?;
            if !group.is_multicast() {
                let hint = "write one of 224.0.0.0/4 or ff00::/8, as in `232.1.1.1`";
                return Err(ValueError::new("not a multicast group", hint));
            }
            // RFC 5771 section 4, RFC 4291 section 2.7.
            let stays = match group {
                IpAddr::V4(group) => group.octets()[..3] == [224, 0, 0],
                IpAddr::V6(group) => group.octets()[1] & 0xf <= 2,
            };
            if stays {
                return Err(ValueError::new("a group that never leaves its link", "use one that is routed"));
            }
            Ok(Self(group))
        })
    }
}

impl JsonSchema for Group {
    fn schema_name() -> Cow<'static, str> {
        "Group".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A multicast group.", "examples": ["232.1.1.1"] })
    }
}

impl Read for BfrIds {
    fn read(value: &Value<'_>, reader: &mut Reader) -> Option<Self> {
        reader.parsed(value, str::parse)
    }
}

impl JsonSchema for BfrIds {
    fn schema_name() -> Cow<'static, str> {
        "BfrIds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "description": "Numbers of BIER routers, and ranges.", "examples": ["1,2,66-70"]
        })
    }
}
