//! What a request asks for of a content: conditions and ranges (RFC 9110 §13 and §14), pure.

use std::ops::Range;

use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// 200: all of it.
    Whole,
    /// 206: these bytes.
    Part(Range<u64>),
    /// 304: the client has it.
    NotModified,
    /// 412: it isn't what the client thinks.
    Failed,
    /// 416: no such bytes.
    Unsatisfiable,
}

/// Decides by the request's headers; `etag` with its quotes. `ranges` is false for methods that have none (§14.2).
pub(super) fn wanted(headers: &HeaderMap, etag: &str, size: u64, ranges: bool) -> Wanted {
    // In the order of §13.2.2. What names no tag is ignored: dates mean nothing here, roots do.
    if any(headers, &IF_MATCH, |tag| tag == "*" || tag == etag) == Some(false) {
        return Wanted::Failed;
    }
    let weak = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
    if any(headers, &IF_NONE_MATCH, weak) == Some(true) {
        return Wanted::NotModified;
    }
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let Some(range) = range.filter(|_| ranges) else { return Wanted::Whole };
    if headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag.as_bytes()) {
        return Wanted::Whole;
    }
    parse(range, size)
}

/// One range of bytes. What isn't one, or is several, is ignored, as §14.2 allows: whoever asks so gets all.
fn parse(range: &str, size: u64) -> Wanted {
    let Some((unit, set)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    // `parse` alone would take a sign; numbers beyond 64 bits are beyond every end.
    let number = |digits: &str| {
        let is_one = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_one.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// Whether one of a header's tags is as asked; `None` without the header. No tag of ours has a comma in it.
fn any(headers: &HeaderMap, name: &HeaderName, is: impl Fn(&str) -> bool) -> Option<bool> {
    headers.contains_key(name).then(|| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|tag| is(tag.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "\"abc\"";

    fn answer(headers: &[(&str, &str)]) -> Wanted {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        wanted(&headers.collect(), ETAG, 1000, true)
    }

    #[test]
    fn ranges_as_the_rfc_has_them() {
        for (range, wanted) in [
            ("bytes=0-499", Wanted::Part(0..500)),
            ("bytes=500-999", Wanted::Part(500..1000)),
            ("bytes=500-4000", Wanted::Part(500..1000)),
            ("bytes=999-", Wanted::Part(999..1000)),
            ("BYTES=0-0", Wanted::Part(0..1)),
            ("bytes=-500", Wanted::Part(500..1000)),
            ("bytes=-5000", Wanted::Part(0..1000)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..1000)),
            ("bytes=1000-", Wanted::Unsatisfiable),
            ("bytes=1000-2000", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            // Not ranges, or several.
            ("bytes=5-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(answer(&[("range", range)]), wanted, "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn conditions_as_the_rfc_has_them() {
        let range = ("range", "bytes=0-0");
        for (headers, wanted) in [
            (&[][..], Wanted::Whole),
            (&[range, ("if-range", ETAG)], Wanted::Part(0..1)),
            (&[range, ("if-range", "\"other\"")], Wanted::Whole),
            (&[range, ("if-range", "W/\"abc\"")], Wanted::Whole),
            (&[range, ("if-range", "Tue, 01 Jan 2030 00:00:00 GMT")], Wanted::Whole),
            (&[("if-none-match", "\"x\", W/\"abc\"")], Wanted::NotModified),
            (&[("if-none-match", "*")], Wanted::NotModified),
            (&[range, ("if-none-match", "\"x\"")], Wanted::Part(0..1)),
            (&[("if-match", "\"x\"")], Wanted::Failed),
            (&[("if-match", "W/\"abc\"")], Wanted::Failed),
            (&[("if-match", "\"x\" , \"abc\"")], Wanted::Whole),
            (&[("if-match", "\"x\""), ("if-none-match", "*")], Wanted::Failed),
        ] {
            assert_eq!(answer(headers), wanted, "{headers:?}");
        }
        let head = [(RANGE, "bytes=0-0".parse().unwrap())].into_iter().collect();
        assert_eq!(wanted(&head, ETAG, 1000, false), Wanted::Whole);
    }
}
