//! Black pictures of any size, small as files: what a thumb is made of, and a decompression bomb.

/// A black picture of one bit a pixel.
pub(crate) fn black(width: u32, height: u32) -> Vec<u8> {
    const GREY_OF_ONE_BIT: [u8; 5] = [1, 0, 0, 0, 0];
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &GREY_OF_ONE_BIT].concat();
    let row = 1 + u64::from(width.div_ceil(8));
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in
        [(b"IHDR", header), (b"IDAT", zeros(row * u64::from(height))), (b"IEND", Vec::new())]
    {
        let content = [&kind[..], &content].concat();
        file.extend((content.len() as u32 - 4).to_be_bytes());
        file.extend(&content);
        file.extend(crc32fast::hash(&content).to_be_bytes());
    }
    file
}

/// So many zeros in the zlib format (RFC 1950, RFC 1951): one, and then the same again and again.
fn zeros(count: u64) -> Vec<u8> {
    const MOST_AT_ONCE: u64 = 258;
    let (matches, rest) = ((count - 1) / MOST_AT_ONCE, (count - 1) % MOST_AT_ONCE);
    let mut bits = Bits::default();
    // The last block, of fixed codes.
    bits.push("110");
    for _ in 0..=rest {
        bits.push("00110000");
    }
    for _ in 0..matches {
        // 258 bytes, from a distance of one.
        bits.push("1100010100000");
    }
    bits.push("0000000");
    let checksum = (((count % 65_521) as u32) << 16) | 1;
    [&[0x78, 0x01], bits.0.as_slice(), &checksum.to_be_bytes()].concat()
}

/// Bits from the lowest of each byte on.
#[derive(Default)]
struct Bits(Vec<u8>, usize);

impl Bits {
    fn push(&mut self, bits: &str) {
        for bit in bits.bytes() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            if let Some(last) = self.0.last_mut() {
                *last |= (bit - b'0') << (self.1 % 8);
            }
            self.1 += 1;
        }
    }
}
