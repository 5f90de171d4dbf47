//! Numbers that NORM sends in a few bits: round-trip times and group sizes (RFC 5401 section 2, RFC 5740 section 4.2.1)
//! and rates (RFC 5740 section 4.2.3).

use core::time::Duration;

const RTT_MIN: f64 = 1e-6;
const RTT_MAX: f64 = 1000.0;

/// The round-trip time that a byte stands for: 1 microsecond to 1000 seconds, linear at first, then exponential.
#[must_use]
pub fn rtt(quantized: u8) -> Duration {
    let quantized = f64::from(quantized);
    let seconds = if quantized < 31.0 {
        (quantized + 1.0) * RTT_MIN
    } else {
        RTT_MAX / ((255.0 - quantized) / 13.0).exp()
    };
    Duration::from_secs_f64(seconds)
}

/// The byte for a round-trip time, rounded up, so that nobody answers too early.
#[must_use]
pub fn quantize_rtt(rtt: Duration) -> u8 {
    if rtt <= Duration::from_micros(31) {
        return (rtt.as_nanos().div_ceil(1000) as u8).saturating_sub(1);
    }
    let seconds = rtt.as_secs_f64().min(RTT_MAX);
    (255.0 - 13.0 * (RTT_MAX / seconds).ln()).ceil() as u8
}

/// The group size that 4 bits stand for: 1 or 5 (the high bit) times a power of ten from 10 up.
#[must_use]
pub fn group_size(quantized: u8) -> u64 {
    let mantissa = if quantized & 8 == 0 { 1 } else { 5 };
    mantissa * 10u64.pow(u32::from(quantized & 7) + 1)
}

/// The 4 bits for a group size, rounded up.
#[must_use]
pub fn quantize_group_size(size: u64) -> u8 {
    (0..8).flat_map(|exponent| [exponent, 8 | exponent]).find(|code| group_size(*code) >= size).unwrap_or(15)
}

/// The rate in bytes per second that 16 bits stand for: 12 bits of mantissa, 4 of exponent.
#[must_use]
pub fn rate(quantized: u16) -> f64 {
    f64::from(quantized >> 4) * (10.0 / 4096.0) * 10f64.powi(i32::from(quantized & 15))
}

/// The 16 bits for a rate in bytes per second.
#[must_use]
pub fn quantize_rate(bytes_per_second: f64) -> u16 {
    if bytes_per_second < 1.0 {
        return 0;
    }
    let exponent = bytes_per_second.log10().floor().min(15.0);
    let mantissa = (bytes_per_second / 10f64.powf(exponent) * (4096.0 / 10.0) + 0.5).min(4095.0);
    (mantissa as u16) << 4 | exponent as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_time_comes_back_a_little_longer() {
        assert_eq!(rtt(0), Duration::from_micros(1));
        assert_eq!(rtt(255), Duration::from_secs(1000));
        for code in 0..255 {
            assert!(rtt(code) < rtt(code + 1));
            // A hair less than the code's own time, for what floats round away.
            assert_eq!(quantize_rtt(rtt(code).mul_f64(0.999)), code);
            assert_eq!(
                quantize_rtt(rtt(code).mul_f64(1.001).max(rtt(code) + Duration::from_nanos(2))),
                code + 1
            );
        }
        assert_eq!((quantize_rtt(Duration::ZERO), quantize_rtt(Duration::MAX)), (0, 255));
    }

    #[test]
    fn group_sizes_are_rounded_up() {
        assert_eq!([0, 8, 1, 9, 7, 15].map(group_size), [10, 50, 100, 500, 100_000_000, 500_000_000]);
        assert_eq!([0, 3, 10, 11, 51, 256].map(quantize_group_size), [0, 0, 0, 8, 1, 9]);
        assert_eq!(quantize_group_size(u64::MAX), 15);
    }

    #[test]
    fn rates_come_back_within_a_quarter_of_a_percent() {
        for bytes in [1.0, 9.99, 1234.5, 12.5e6, 1.25e9] {
            let back = rate(quantize_rate(bytes));
            assert!((back / bytes - 1.0).abs() < 0.0025, "{bytes} came back as {back}");
        }
        assert_eq!(rate(quantize_rate(0.0)), 0.0);
    }
}
