//! Points in time in the contract's form: `YYYY-MM-DD HH:MM:SS.mmmZ`, UTC (CONTRACT §1.8).

use std::fmt::Write as _;

/// Milliseconds since 1970-01-01 00:00:00 UTC. Only the binary and the services read a clock; the
/// model is handed one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Appends the contract's text. Years outside 0000–9999 are held at that range's ends.
    pub fn write(self, out: &mut String) {
        let datetime = self.datetime();
        let _ = write!(
            out,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03}Z",
            datetime.year(),
            datetime.month(),
            datetime.day(),
            datetime.hour(),
            datetime.minute(),
            datetime.second(),
            datetime.millisecond()
        );
    }

    /// The contract's text.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity(24);
        self.write(&mut text);
        text
    }

    /// The UTC calendar date and time.
    pub fn datetime(self) -> jiff::civil::DateTime {
        let instant = jiff::Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        jiff::tz::TimeZone::UTC.to_datetime(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_a_space_three_decimals_and_a_z() {
        assert_eq!(Timestamp(0).to_text(), "1970-01-01 00:00:00.000Z");
        assert_eq!(Timestamp(1_641_092_645_078).to_text(), "2022-01-02 03:04:05.078Z");
    }
}
