//! What a probe over HTTP asks for, and which answers are good.

use std::fmt;
use std::str::FromStr;

use super::ValueError;
use crate::limits::HTTP_PATH_BYTES_MAX;

/// The path, and query if any, of a request (RFC 9112 section 3.2.1): it begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpPath(String);

/// HTTP status codes from `first` to `last`, both included: `200-399`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatusRange {
    /// The lowest code.
    pub first: u16,
    /// The highest code.
    pub last: u16,
}

impl HttpPath {
    /// As it is written into a request.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for HttpPath {
    /// The root.
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl Default for StatusRange {
    /// Success and redirection (RFC 9110 section 15).
    fn default() -> Self {
        Self { first: 200, last: 399 }
    }
}

impl StatusRange {
    /// Whether a code is one of them.
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for HttpPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Whatever else stood in the request's line would end it, or begin another.
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !text.starts_with('/') || !plain {
            return Err(ValueError::new("not a path of HTTP", "write it as in a request, as in `/healthz`"));
        }
        if text.len() > HTTP_PATH_BYTES_MAX {
            return Err(ValueError::new("too long", format!("it has {HTTP_PATH_BYTES_MAX} bytes at most")));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for StatusRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let code = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|code| (100..=599).contains(code))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Some(first), Some(last)) = (code(first), code(last)) else {
            return Err(ValueError::new(
                "not a range of status codes",
                "write first and last, as in `200-399`",
            ));
        };
        if first > last {
            return Err(ValueError::new("the range runs backwards", format!("write `{last}-{first}`")));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for HttpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_nothing_but_one_word_of_a_request() {
        for path in ["/", "/healthz", "/a/b?deep=1&x=%20"] {
            assert_eq!(path.parse::<HttpPath>().unwrap().as_str(), path);
        }
        for path in ["", "healthz", "/a b", "/a\r\nHost: x", "/ä", "/a#b", &format!("/{}", "a".repeat(300))]
        {
            assert!(path.parse::<HttpPath>().is_err(), "{path}");
        }
    }

    #[test]
    fn a_range_of_codes_has_two_ends_or_is_one_code() {
        let range: StatusRange = "200-299".parse().unwrap();
        assert!(range.contains(200) && range.contains(299) && !range.contains(300) && !range.contains(199));
        assert_eq!("204".parse::<StatusRange>().unwrap().to_string(), "204-204");
        for text in ["", "2xx", "20-30", "200-", "299-200", "200-600", "+20", "099-200"] {
            assert!(text.parse::<StatusRange>().is_err(), "{text}");
        }
    }
}
