//! Random texts.

/// A small generator of numbers, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A text that is mostly well formed.
    pub(crate) fn filter(&mut self) -> String {
        let depth = self.below(3);
        self.expression(depth, &[])
    }

    /// A text that names the request too.
    pub(crate) fn rule(&mut self) -> String {
        let depth = self.below(2);
        self.expression(depth, super::cases::REQUEST_PATHS)
    }

    fn expression(&mut self, depth: usize, more: &[&str]) -> String {
        let parts = 1 + self.below(3);
        let mut text = String::new();
        for part in 0..parts {
            if part > 0 {
                text.push_str(self.pick(&["&&", " && ", "||", " || "]));
            }
            if depth > 0 && self.below(3) == 0 {
                text.push_str(&format!("({})", self.expression(depth - 1, more)));
            } else {
                text.push_str(&self.comparison(more));
            }
        }
        text
    }

    fn comparison(&mut self, more: &[&str]) -> String {
        let left = self.operand(more);
        let sign = self.pick(super::cases::SIGNS);
        let right = self.operand(more);
        format!("{left}{sign}{right}")
    }

    fn operand(&mut self, more: &[&str]) -> String {
        match self.below(3) {
            1 if !more.is_empty() => self.pick(more).to_owned(),
            0 => self.pick(super::cases::LITERALS).to_owned(),
            _ => self.pick(super::cases::PATHS).to_owned(),
        }
    }
}
