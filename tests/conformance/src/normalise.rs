//! Generated values in an answer, told apart from those that must be equal.
//!
//! A text is cut into [`Token`]s. Generated ids and secrets become [`Token::Generated`], which two servers
//! share only through [`Matches`]: the first time two of them stand at the same place they are tied to each
//! other, and from then on each must appear wherever the other does.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::encoding::base64_decode;

/// How far a clock reading may lie outside a scenario's run and still count as one.
const CLOCK_SLACK_SECONDS: i64 = 5;
/// How far two expiry times may differ when both servers were asked one after the other.
const EXPIRY_SLACK_SECONDS: i64 = 20;
/// Lengths of OAuth2 state, client ids and token keys, and code verifiers and challenges.
const SECRET_LENGTHS: [usize; 4] = [30, 40, 43, 50];
const ID_LENGTH: usize = 15;
/// The length of each random part of a stored file's name.
const RANDOM_PART: usize = 10;
/// How long a name of less than three letters is once it was filled up.
const FILLED_UP: RangeInclusive<usize> = 10..=12;
const FIELD_TYPES: [&str; 14] = [
    "text", "editor", "number", "bool", "email", "url", "date", "autodate", "select", "file", "relation",
    "json", "password", "geoPoint",
];

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Must be equal.
    Text(String),
    /// Must be tied to the other's value.
    Generated(String),
    /// A reading of the clock during the run.
    Now,
    /// A token's expiry or issue time, in seconds from now.
    Expiry(i64),
}

/// What one server's side has taught about its values.
#[derive(Debug)]
pub struct Seen {
    /// Words of the scenario file: given, hence never generated.
    given: HashSet<String>,
    /// Generated ids without a digit, known by where they stood.
    learned: HashSet<String>,
    started: i64,
}

/// Which generated value of one server stands for which of the other.
#[derive(Debug, Default)]
pub struct Matches {
    to_subject: HashMap<String, String>,
    to_reference: HashMap<String, String>,
}

impl Seen {
    /// For a scenario with this text, starting now.
    pub fn new(scenario_text: &str) -> Self {
        // Names of files are stored in lower case.
        let given = words(scenario_text).flat_map(|word| [word.to_owned(), word.to_lowercase()]).collect();
        Self { given, learned: HashSet::new(), started: now() }
    }

    /// Notes a value saved from an answer, which later answers may repeat anywhere.
    pub fn learn(&mut self, value: &str) {
        let is_id = value.len() == ID_LENGTH && value.bytes().all(is_id_byte);
        let is_secret = SECRET_LENGTHS.contains(&value.len()) && value.bytes().all(is_word_byte);
        if (is_id || is_secret) && !self.given.contains(value) {
            self.learned.insert(value.to_owned());
        }
    }

    /// The text without what may differ on another server.
    pub fn fixed_part(&mut self, text: &str) -> String {
        let fixed = |token| if let Token::Text(text) = token { text } else { "?".to_owned() };
        self.tokens(text).into_iter().map(fixed).collect()
    }

    /// Cuts a text into tokens.
    pub fn tokens(&mut self, text: &str) -> Vec<Token> {
        let mut tokens = Tokens::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let taken = self.take_token(text, rest, &mut tokens);
            if taken == 0 {
                tokens.push_text(&rest[..first.len_utf8()]);
            }
            rest = &rest[taken.max(first.len_utf8())..];
        }
        tokens.list
    }

    /// Takes the time stamp, token or word at the start of `rest`; returns its length.
    fn take_token(&mut self, text: &str, rest: &str, tokens: &mut Tokens) -> usize {
        if let Some(seconds) = rest.get(..24).and_then(parse_timestamp) {
            let recent = self.started - CLOCK_SLACK_SECONDS..=now() + CLOCK_SLACK_SECONDS;
            tokens.push(if recent.contains(&seconds) {
                Token::Now
            } else {
                Token::Text(rest[..24].to_owned())
            });
            return 24;
        }
        if rest.starts_with("eyJ") {
            let jwt = run_of(rest, |byte| is_word_byte(byte) || b".-".contains(&byte));
            if let Some((header, claims)) = decode_jwt(jwt) {
                tokens.push_text(&format!("<jwt {header} "));
                self.push_claims(&claims, tokens);
                tokens.push_text(">");
                return jwt.len();
            }
        }
        let secret = run_of(rest, |byte| is_word_byte(byte) || byte == b'-');
        if (is_secret(secret) || self.is_learned_secret(secret)) && !self.given.contains(secret) {
            tokens.push(Token::Generated(secret.to_owned()));
            return secret.len();
        }
        let word = run_of(rest, is_word_byte);
        let before = &text[..text.len() - rest.len()];
        self.push_word(before, word, &rest[word.len()..], tokens);
        word.len()
    }

    fn push_word(&mut self, before: &str, word: &str, after: &str, tokens: &mut Tokens) {
        if self.given.contains(word) {
            return tokens.push_text(word);
        }
        if self.is_generated_id(before, word) {
            return tokens.push(Token::Generated(word.to_owned()));
        }
        if let Some(kept) = copied_name_prefix(word) {
            tokens.push_text(kept);
            return tokens.push(Token::Generated(word[kept.len()..].to_owned()));
        }
        self.push_stored_name(word, after, tokens);
    }

    /// The name of a stored file: its random ends, of which a batch adds two, and the random letters that
    /// a very short name was filled up with.
    fn push_stored_name(&self, word: &str, after: &str, tokens: &mut Tokens) {
        let is_dotted =
            after.strip_prefix('.').is_some_and(|end| end.starts_with(|c: char| c.is_ascii_alphanumeric()));
        let mut name = word;
        let mut ends = Vec::new();
        while let Some((before, end)) = name.rsplit_once('_') {
            let known = if ends.is_empty() {
                !is_dotted && !self.given.contains(before)
            } else {
                self.given.contains(end)
            };
            if known || !is_random_part(end) {
                break;
            }
            name = before;
            ends.push(end);
        }
        let filled_up = !ends.is_empty() && FILLED_UP.contains(&name.len()) && !self.given.contains(name);
        let kept = if filled_up { name.len() - RANDOM_PART } else { name.len() };
        let filling = name.get(kept..).filter(|filling| is_random_part(filling));
        tokens.push_text(&name[..filling.map_or(name.len(), |_| kept)]);
        tokens.list.extend(filling.map(|filling| Token::Generated(filling.to_owned())));
        for end in ends.into_iter().rev() {
            tokens.push_text("_");
            tokens.push(Token::Generated(end.to_owned()));
        }
    }

    fn is_learned_secret(&self, run: &str) -> bool {
        run.len() != ID_LENGTH && self.learned.contains(run)
    }

    fn is_generated_id(&mut self, before: &str, word: &str) -> bool {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if word.len() != ID_LENGTH || !word.bytes().all(is_id_byte) || is_number || is_field_id(word) {
            return false;
        }
        if ["\"id\":\"", "Id\":\"", "Ref\":\""].iter().any(|key| before.ends_with(key)) {
            self.learned.insert(word.to_owned());
        }
        self.learned.contains(word) || word.bytes().any(|byte| byte.is_ascii_digit())
    }

    /// Claims as written, but times as distances from now.
    fn push_claims(&mut self, claims: &str, tokens: &mut Tokens) {
        let mut rest = claims;
        while let Some(at) = ["\"exp\":", "\"iat\":"].iter().filter_map(|key| rest.find(key)).min() {
            let (before, from_number) = rest.split_at(at + "\"exp\":".len());
            let number = run_of(from_number, |byte| byte.is_ascii_digit());
            tokens.extend(self.tokens(before));
            tokens.push(Token::Expiry(number.parse::<i64>().unwrap_or(0) - now()));
            rest = &from_number[number.len()..];
        }
        tokens.extend(self.tokens(rest));
    }
}

impl Matches {
    /// Whether the two say the same. New ties are made only if the rest agrees.
    pub fn agree(&mut self, reference: &[Token], subject: &[Token]) -> bool {
        let fixed_agree = reference.len() == subject.len()
            && reference.iter().zip(subject).all(|(left, right)| fixed_agree(left, right));
        fixed_agree && reference.iter().zip(subject).all(|(left, right)| self.tie(left, right))
    }

    fn tie(&mut self, reference: &Token, subject: &Token) -> bool {
        let (Token::Generated(left), Token::Generated(right)) = (reference, subject) else { return true };
        let to_subject = self.to_subject.entry(left.clone()).or_insert_with(|| right.clone());
        let to_reference = self.to_reference.entry(right.clone()).or_insert_with(|| left.clone());
        to_subject == right && to_reference == left
    }
}

/// How two texts of the reference stand to each other. Times a millisecond apart are one: the reference reads the clock twice
/// for what is made at once, and the runner waits longer for what is to be later.
pub(crate) fn order(left: &str, right: &str) -> Ordering {
    let apart = parse_milliseconds(left).zip(parse_milliseconds(right)).map(|(left, right)| left - right);
    if apart.is_some_and(|apart| apart.abs() <= 1) { Ordering::Equal } else { left.cmp(right) }
}

fn fixed_agree(reference: &Token, subject: &Token) -> bool {
    match (reference, subject) {
        (Token::Generated(left), Token::Generated(right)) => left.len() == right.len(),
        (Token::Expiry(left), Token::Expiry(right)) => (left - right).abs() <= EXPIRY_SLACK_SECONDS,
        (left, right) => left == right,
    }
}

/// Tokens, neighbouring texts joined.
#[derive(Default)]
struct Tokens {
    list: Vec<Token>,
}

impl Tokens {
    fn push(&mut self, token: Token) {
        match token {
            Token::Text(text) => self.push_text(&text),
            other => self.list.push(other),
        }
    }

    fn push_text(&mut self, text: &str) {
        match self.list.last_mut() {
            Some(Token::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.list.push(Token::Text(text.to_owned())),
        }
    }

    fn extend(&mut self, tokens: Vec<Token>) {
        tokens.into_iter().for_each(|token| self.push(token));
    }
}

/// What comes before the random end of a copied field's id or a trial view's name.
fn copied_name_prefix(word: &str) -> Option<&'static str> {
    ["_clone_", "temp_view_"].into_iter().find(|prefix| word.starts_with(prefix))
}

fn is_random_part(text: &str) -> bool {
    text.len() == RANDOM_PART && text.bytes().all(is_id_byte)
}

fn is_secret(run: &str) -> bool {
    let has = |wanted: fn(&u8) -> bool| run.as_bytes().iter().any(wanted);
    SECRET_LENGTHS.contains(&run.len())
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}

/// Field ids follow from type and name, so they are compared; some are as long as a record id.
fn is_field_id(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    FIELD_TYPES.contains(&&word[..word.len() - digits.len()])
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn decode_jwt(jwt: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let [header, claims, _signature] = parts.as_slice() else { return None };
    let decode = |part: &str| String::from_utf8(base64_decode(part)?).ok();
    Some((decode(header)?, decode(claims)?))
}

/// `YYYY-MM-DD HH:MM:SS.mmmZ` as seconds since 1970.
fn parse_timestamp(text: &str) -> Option<i64> {
    const FORM: &[u8] = b"dddd-dd-dd dd:dd:dd.dddZ";
    let fits = |(byte, form): (u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form };
    if text.len() != FORM.len() || !text.bytes().zip(FORM).all(fits) {
        return None;
    }
    let number = |range| text.get(range).and_then(|digits: &str| digits.parse::<i64>().ok());
    let days = days_since_1970(number(0..4)?, number(5..7)?, number(8..10)?);
    Some(((days * 24 + number(11..13)?) * 60 + number(14..16)?) * 60 + number(17..19)?)
}

fn parse_milliseconds(text: &str) -> Option<i64> {
    Some(parse_timestamp(text)? * 1000 + text.get(20..23)?.parse::<i64>().ok()?)
}

/// Days of the Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !u8::try_from(c).is_ok_and(is_word_byte)).filter(|word| !word.is_empty())
}

fn run_of(text: &str, wanted: impl Fn(u8) -> bool) -> &str {
    let length = text.bytes().take_while(|byte| wanted(*byte)).count();
    &text[..length]
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("seconds fit for a long time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(given: &str, reference: &str, subject: &str) -> bool {
        let tokens = |text| Seen::new(given).tokens(text);
        Matches::default().agree(&tokens(reference), &tokens(subject))
    }

    #[test]
    fn generated_ids_may_differ_but_must_recur_alike() {
        assert!(agree(
            "",
            r#"["abcde0123456789","zzzzz0123456789"]"#,
            r#"["aaaaa0123456789","bbbbb0123456789"]"#
        ));
        let twice = r#"["abcde0123456789","abcde0123456789"]"#;
        let two = r#"["abcde0123456789","bbbbb0123456789"]"#;
        assert!(!agree("", twice, two));
        assert!(!agree("", two, twice));
        let client = "a".repeat(40);
        let (mut left, mut right) = (Seen::new(""), Seen::new(""));
        left.learn(&client);
        right.learn(&"b".repeat(40));
        let tokens = (left.tokens(&client), right.tokens(&"b".repeat(40)));
        assert!(Matches::default().agree(&tokens.0, &tokens.1));
        assert!(agree("", r#"{"id":"abcdefghijklmno"}"#, r#"{"id":"zbcdefghijklmno"}"#));
    }

    #[test]
    fn given_ids_and_field_ids_must_be_equal() {
        assert!(!agree("cat000000000001", r#""cat000000000001""#, r#""abcde0123456789""#));
        assert!(!agree("", "123456789012345", "123456789012346"));
        assert!(!agree("", r#""number511086779""#, r#""number511086778""#));
        assert!(!agree("", r#""pbc_383469904200""#, r#""pbc_383469904201""#));
    }

    #[test]
    fn only_readings_of_the_clock_are_times_to_overlook() {
        assert_eq!(parse_timestamp("2000-03-01 00:00:01.000Z"), Some(951_868_801));
        assert!(!agree("", r#""2022-01-01 00:00:00.000Z""#, r#""2022-01-01 00:00:00.001Z""#));
        assert_eq!(Seen::new("").tokens("2022-01-01 00:00:00.000Z").len(), 1);
    }

    #[test]
    fn times_a_millisecond_apart_are_one() {
        let order = |left: &str, right: &str| {
            super::order(&format!("2026-01-01 00:00:{left}Z"), &format!("2026-01-01 00:00:{right}Z"))
        };
        assert_eq!(order("01.000", "00.999"), Ordering::Equal);
        assert_eq!(order("01.000", "01.002"), Ordering::Less);
        assert_eq!(super::order("b", "a"), Ordering::Greater);
    }

    #[test]
    fn tokens_are_compared_by_header_and_claims() {
        // {"alg":"HS256"} with {"exp":1,"type":"auth"}, {"exp":9,"type":"auth"} and {"exp":1,"type":"file"}.
        let reference = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEsInR5cGUiOiJhdXRoIn0.aaa";
        assert!(agree("", reference, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjksInR5cGUiOiJhdXRoIn0.bbb"));
        assert!(!agree("", reference, "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEsInR5cGUiOiJmaWxlIn0.aaa"));
    }

    #[test]
    fn stored_file_names_differ_only_in_their_random_part() {
        assert!(agree("", r#""cat_a1b2c3d4e5.png""#, r#""cat_zzzzzzzzzz.png""#));
        assert!(!agree("", r#""cat_a1b2c3d4e5.png""#, r#""dog_a1b2c3d4e5.png""#));
        let twice = r#"["cat_a1b2c3d4e5.png","cat_a1b2c3d4e5.png"]"#;
        assert!(!agree("", twice, r#"["cat_zzzzzzzzzz.png","cat_yyyyyyyyyy.png"]"#));
        // Of a batch, of a name of one letter, and without an ending.
        assert!(agree("", r#""cat_a1b2c3d4e5_a1b2c3d4e6.png""#, r#""cat_zzzzzzzzzz_yyyyyyyyyy.png""#));
        assert!(agree("", r#""aa1b2c3d4e5_a1b2c3d4e5.png""#, r#""azzzzzzzzzz_zzzzzzzzzz.png""#));
        assert!(!agree("", r#""aa1b2c3d4e5_a1b2c3d4e5.png""#, r#""bzzzzzzzzzz_zzzzzzzzzz.png""#));
        assert!(agree("Cat", r#""cat_a1b2c3d4e5""#, r#""cat_zzzzzzzzzz""#));
        assert!(!agree("", r#""text_constraint""#, r#""text_constrainu""#));
    }
}
