//! Names of files as URIs, which tables give them by.

use std::fmt::Write as _;

/// The location of a file of this name: what isn't plain is written as `%` and two digits (RFC 3986 section 2.1).
#[must_use]
pub fn location_of(name: &str) -> String {
    let mut location = "file:///".to_owned();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                location.push(char::from(byte));
            }
            // A string takes all.
            other => drop(write!(location, "%{other:02X}")),
        }
    }
    location
}

/// What follows the last slash of a location, without a query: a file's name, or none.
pub(crate) fn last(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    // Not all who send know how to write URIs: what makes no sense stands for itself.
    decoded(last).unwrap_or_else(|| last.to_owned())
}

fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_location() {
        for name in ["image.bin", "café image v2.bin", "50% of a?b#c.txt", "%41", "a+b&c"] {
            assert_eq!(last(&location_of(name)), name);
        }
        assert_eq!(location_of("a b?.bin"), "file:///a%20b%3F.bin");
    }

    #[test]
    fn what_is_no_uri_stands_for_itself() {
        for (location, name) in [
            ("http://a/b/c.bin?x#y", "c.bin"),
            ("c.bin", "c.bin"),
            ("file:///100%", "100%"),
            ("file:///%zz", "%zz"),
            ("file:///%+1", "%+1"),
            ("file:///%é", "%é"),
            ("file:///%ff", "%ff"),
            ("a/", ""),
        ] {
            assert_eq!(last(location), name);
        }
        // What is decoded to a way elsewhere is no name: who takes it checks that.
        assert_eq!(millrace_hub_store::Label::name(&last("file:///..%2Fx")), None);
    }
}
