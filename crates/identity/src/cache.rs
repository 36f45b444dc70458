//! Tokens that were verified, remembered until they expire or their record or collection changes.
//!
//! Forgetting does not look for entries. Every change of a record raises a number of its own, kept in a
//! fixed table by hash; an entry holds the number at which its verification *began*, before the record
//! was loaded, and counts only while no later change is noted. So a verification that overlaps a change
//! never counts, whenever it is put in, and forgetting takes no lock. Two records that share a place in
//! the table cost each other a verification now and then, nothing else.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use model::record::Record;
use sha2::{Digest, Sha256};

/// Remembers verified auth tokens.
#[derive(Debug)]
pub struct TokenCache {
    shards: Box<[RwLock<Shard>]>,
    entries_per_shard: usize,
    /// Rises with each change.
    generation: AtomicU64,
    records: Changes,
    collections: Changes,
    hasher: RandomState,
}

/// What is remembered of a token.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// Whose token it is.
    pub record: Arc<Record>,
    /// Seconds since 1970; from then on the token is void.
    pub expires_at: i64,
    /// Whether it can be exchanged for a newer one.
    pub refreshable: bool,
}

/// When a verification began. It is taken before the record is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Entry {
    remembered: Remembered,
    generation: u64,
    record_place: usize,
    collection_place: usize,
}

type Shard = HashMap<TokenHash, Entry, BuildHasherDefault<FirstBytes>>;

/// The generation of the last change, by a hash of what was changed.
#[derive(Debug)]
struct Changes(Box<[AtomicU64]>);

/// SHA-256 of a token: what is kept in memory signs nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenHash([u8; 32]);

/// A hash is its own hash.
#[derive(Debug, Default)]
struct FirstBytes(u64);

/// Enough that request loops on many cores seldom meet in one.
const SHARDS: usize = 64;
const RECORD_PLACES: usize = 8192;
const COLLECTION_PLACES: usize = 512;

// === impl TokenCache ===

impl TokenCache {
    /// A cache of at most about this many tokens.
    pub fn new(capacity: usize) -> TokenCache {
        TokenCache {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            entries_per_shard: capacity.div_ceil(SHARDS).max(1),
            generation: AtomicU64::new(0),
            records: Changes::new(RECORD_PLACES),
            collections: Changes::new(COLLECTION_PLACES),
            hasher: RandomState::new(),
        }
    }

    /// What is remembered of a token, if it still counts; `now` is in seconds since 1970.
    pub fn get(&self, token: &str, now: i64) -> Option<Remembered> {
        let hash = TokenHash::of(token);
        let shard = self.shard(hash).read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = shard.get(&hash)?;
        self.counts(entry, now).then(|| entry.remembered.clone())
    }

    /// Begins a verification. This comes before the record is loaded.
    pub fn begin(&self) -> Ticket {
        Ticket(self.generation.load(Ordering::SeqCst))
    }

    /// Remembers a verified token. When its record or collection was changed since the ticket was taken,
    /// nothing is remembered and the answer is `false`.
    pub fn insert(&self, ticket: Ticket, token: &str, remembered: Remembered, now: i64) -> bool {
        let collection_id = remembered.record.collection.id.as_str();
        let entry = Entry {
            record_place: self.record_place(collection_id, remembered.record.id()),
            collection_place: self.collection_place(collection_id),
            generation: ticket.0,
            remembered,
        };
        if !self.is_unchanged(&entry) {
            return false;
        }
        let hash = TokenHash::of(token);
        let mut shard = self.shard(hash).write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if shard.len() >= self.entries_per_shard && !shard.contains_key(&hash) {
            self.make_room(&mut shard, now);
        }
        shard.insert(hash, entry);
        true
    }

    /// Forgets all tokens of a record. This comes after its change is committed and before that is
    /// acknowledged.
    pub fn forget_record(&self, collection_id: &str, record_id: &str) {
        self.records.note(self.record_place(collection_id, record_id), self.next_generation());
    }

    /// Forgets all tokens of a collection's records.
    pub fn forget_collection(&self, collection_id: &str) {
        self.collections.note(self.collection_place(collection_id), self.next_generation());
    }

    /// Forgets everything, when it is not known what was changed (a restore, a lost event stream).
    pub fn forget_all(&self) {
        let generation = self.next_generation();
        (0..COLLECTION_PLACES).for_each(|place| self.collections.note(place, generation));
    }

    fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn counts(&self, entry: &Entry, now: i64) -> bool {
        now < entry.remembered.expires_at && self.is_unchanged(entry)
    }

    fn is_unchanged(&self, entry: &Entry) -> bool {
        self.records.last(entry.record_place) <= entry.generation
            && self.collections.last(entry.collection_place) <= entry.generation
    }

    /// Drops what no longer counts; when all of it counts, every fourth entry, so that there is room for a
    /// while.
    fn make_room(&self, shard: &mut Shard, now: i64) {
        shard.retain(|_, entry| self.counts(entry, now));
        if shard.len() >= self.entries_per_shard {
            let mut number = 0;
            shard.retain(|_, _| {
                number += 1;
                number % 4 != 1
            });
        }
    }

    fn record_place(&self, collection_id: &str, record_id: &str) -> usize {
        self.hasher.hash_one((collection_id, record_id)) as usize % RECORD_PLACES
    }

    fn collection_place(&self, collection_id: &str) -> usize {
        self.hasher.hash_one(collection_id) as usize % COLLECTION_PLACES
    }

    fn shard(&self, hash: TokenHash) -> &RwLock<Shard> {
        &self.shards[usize::from(hash.0[31]) % SHARDS]
    }
}

impl Changes {
    fn new(places: usize) -> Changes {
        Changes((0..places).map(|_| AtomicU64::new(0)).collect())
    }

    fn last(&self, place: usize) -> u64 {
        self.0[place].load(Ordering::SeqCst)
    }

    fn note(&self, place: usize, generation: u64) {
        self.0[place].fetch_max(generation, Ordering::SeqCst);
    }
}

impl TokenHash {
    fn of(token: &str) -> TokenHash {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }
}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _) = self.0.split_first_chunk().expect("a hash has 32 bytes");
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use model::collection::{Collection, CollectionKind, Rules};
    use model::field::{Field, FieldKind, TextOptions};
    use model::value::Value;

    use super::*;

    fn record(collection_id: &str, id: &str) -> Arc<Record> {
        let field = Field {
            id: "id".to_owned(),
            name: "id".to_owned(),
            system: true,
            hidden: false,
            presentable: false,
            required: true,
            help: String::new(),
            kind: FieldKind::Text(TextOptions::default()),
        };
        let collection = Collection {
            id: collection_id.to_owned(),
            name: collection_id.to_owned(),
            system: false,
            rules: Rules::default(),
            fields: vec![field],
            indexes: Vec::new(),
            created: String::new(),
            updated: String::new(),
            kind: CollectionKind::Base,
        };
        let mut record = Record::empty(Arc::new(collection));
        record.set("id", Value::Text(id.to_owned()));
        Arc::new(record)
    }

    fn remembered(collection_id: &str, id: &str) -> Remembered {
        Remembered { record: record(collection_id, id), expires_at: 100, refreshable: true }
    }

    fn filled() -> TokenCache {
        let cache = TokenCache::new(100);
        for (token, collection, id) in
            [("t1", "c", "a"), ("t2", "c", "a"), ("t3", "c", "b"), ("t4", "d", "a")]
        {
            assert!(cache.insert(cache.begin(), token, remembered(collection, id), 0));
        }
        cache
    }

    fn known(cache: &TokenCache) -> Vec<&'static str> {
        ["t1", "t2", "t3", "t4"].into_iter().filter(|token| cache.get(token, 0).is_some()).collect()
    }

    #[test]
    fn tokens_are_remembered_until_they_expire() {
        let cache = filled();
        assert_eq!(cache.get("t1", 99).unwrap().record.id(), "a");
        assert!(cache.get("t1", 100).is_none());
        assert!(cache.get("t", 0).is_none());
    }

    #[test]
    fn a_change_forgets_its_record_or_collection() {
        // With places shared by chance more could be forgotten: try until they are apart.
        let forgets = |change: &dyn Fn(&TokenCache), left: &[&str]| {
            (0..20).any(|_| {
                let cache = filled();
                change(&cache);
                known(&cache) == left
            })
        };
        assert!(forgets(&|cache| cache.forget_record("c", "a"), &["t3", "t4"]));
        assert!(forgets(&|cache| cache.forget_collection("c"), &["t4"]));
        let cache = filled();
        cache.forget_all();
        assert_eq!(known(&cache), [""; 0]);
    }

    #[test]
    fn a_verification_begun_before_a_change_never_counts() {
        let cache = TokenCache::new(100);
        let before = cache.begin();
        cache.forget_record("c", "a");
        assert!(!cache.insert(before, "t1", remembered("c", "a"), 0));
        assert!(cache.insert(cache.begin(), "t1", remembered("c", "a"), 0));

        let before = cache.begin();
        cache.forget_collection("c");
        assert!(!cache.insert(before, "t2", remembered("c", "a"), 0));
        assert!(cache.get("t1", 0).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let cache = TokenCache::new(128);
        for number in 0..10_000 {
            cache.insert(cache.begin(), &number.to_string(), remembered("c", "a"), 0);
        }
        let entries: usize = cache.shards.iter().map(|shard| shard.read().unwrap().len()).sum();
        assert!(entries <= 128, "{entries}");
    }
}
