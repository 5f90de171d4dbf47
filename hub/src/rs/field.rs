//! GF(2^8) by logarithms to the base α, where α is a root of x⁸ + x⁴ + x³ + x² + 1 (RFC 5510 section 8.1).

const POLYNOMIAL: u16 = 0x11d;

/// `POWERS[i]` is α to the i; twice around, so that sums of two logarithms need no remainder.
static POWERS: [u8; 510] = powers();
/// Logarithms; that of 0 isn't one.
static LOGS: [u8; 256] = logs();

const fn powers() -> [u8; 510] {
    let mut powers = [0; 510];
    let (mut value, mut i) = (1u16, 0);
    while i < 510 {
        powers[i] = value as u8;
        value <<= 1;
        if value > 255 {
            value ^= POLYNOMIAL;
        }
        i += 1;
    }
    powers
}

const fn logs() -> [u8; 256] {
    let powers = powers();
    let mut logs = [0; 256];
    let mut i = 0;
    while i < 255 {
        logs[powers[i] as usize] = i as u8;
        i += 1;
    }
    logs
}

pub(super) fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    POWERS[usize::from(LOGS[usize::from(a)]) + usize::from(LOGS[usize::from(b)])]
}

/// `a / b`, where `b` isn't 0.
pub(super) fn divide(a: u8, b: u8) -> u8 {
    debug_assert_ne!(b, 0, "points are different, so that no difference is 0");
    if a == 0 {
        return 0;
    }
    POWERS[usize::from(LOGS[usize::from(a)]) + 255 - usize::from(LOGS[usize::from(b)])]
}

/// The point of a segment: 0, then the powers of α.
pub(super) fn point(segment: u8) -> u8 {
    match segment {
        0 => 0,
        other => POWERS[usize::from(other) - 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the book: polynomials over GF(2), reduced.
    fn slow(a: u8, b: u8) -> u8 {
        let mut product =
            (0..8).filter(|bit| b >> bit & 1 == 1).fold(0, |sum, bit| sum ^ u16::from(a) << bit);
        for bit in (8..15).rev() {
            if product >> bit & 1 == 1 {
                product ^= POLYNOMIAL << (bit - 8);
            }
        }
        product as u8
    }

    #[test]
    fn multiplies_as_polynomials_do() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), slow(a, b));
                if b != 0 {
                    assert_eq!(divide(multiply(a, b), b), a);
                }
            }
        }
    }

    #[test]
    fn points_are_different() {
        let mut points: Vec<u8> = (0..=255).map(point).collect();
        points.sort_unstable();
        assert!(points.iter().copied().eq(0..=255));
    }
}
