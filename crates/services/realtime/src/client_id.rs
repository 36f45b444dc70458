//! What a client is called: the code of the node that holds its stream, then what nobody can guess.

use std::fmt;

use rand::RngExt;

/// 40 letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientId([u8; ClientId::LEN]);

impl ClientId {
    pub(crate) const LEN: usize = 40;

    /// A new one. At most 8 letters and digits of the code are taken, so that the rest stays beyond guessing.
    pub(crate) fn random(node_code: &str) -> ClientId {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut rng = rand::rng();
        let mut id = [0; ClientId::LEN];
        for place in &mut id {
            *place = LETTERS[rng.random_range(0..LETTERS.len())];
        }
        let code = node_code.bytes().filter(u8::is_ascii_alphanumeric).take(8);
        for (place, letter) in id.iter_mut().zip(code) {
            *place = letter;
        }
        ClientId(id)
    }

    /// The id with this text, if it can be one.
    pub(crate) fn parse(text: &str) -> Option<ClientId> {
        let id: [u8; ClientId::LEN] = text.as_bytes().try_into().ok()?;
        id.iter().all(u8::is_ascii_alphanumeric).then_some(ClientId(id))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.0).expect("letters and digits are text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_the_nodes_code_and_never_repeat() {
        let (one, other) = (ClientId::random("n0d3").to_string(), ClientId::random("n0d3").to_string());
        assert!(one.len() == 40 && one.starts_with("n0d3") && other.starts_with("n0d3"));
        assert_ne!(one, other);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn only_ids_are_ids() {
        let id = ClientId::random("node");
        assert_eq!(ClientId::parse(&id.to_string()), Some(id));
        for text in ["", "x", &"é".repeat(20), &"-".repeat(40), &"a".repeat(41)] {
            assert_eq!(ClientId::parse(text), None, "{text}");
        }
    }
}
