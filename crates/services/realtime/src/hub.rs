//! Who is connected, for whom each stream speaks, and who follows which topic.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::context::Caller;
use model::record::Record;
use tokio::time::Instant;

use crate::client_id::ClientId;
use crate::limits::Limits;
use crate::outlet::Place;
use crate::topic::{self, Topic};

/// The clients of a node, behind a lock that is held for short sections only.
pub(crate) struct Hub {
    state: Mutex<State>,
    limits: Limits,
}

/// A client while it is connected; dropping it takes the client off the hub.
pub(crate) struct Registration {
    hub: Arc<Hub>,
    key: ClientKey,
}

/// Which client, in short; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(u64);

/// Which record a stream speaks for: the collection's id and its own.
pub(crate) type AuthKey = (String, String);

/// The clients that a message goes to, by loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(pub(crate) Vec<(usize, Arc<[Place]>)>);

/// Who follows a topic, in the groups in which it can be told them.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// All but superusers.
    pub(crate) everyone: Seats,
    pub(crate) guests: Seats,
    pub(crate) records: Vec<(Arc<Record>, Seats)>,
    pub(crate) superusers: Seats,
    pub(crate) each_superuser: Vec<(Arc<Record>, Seats)>,
}

/// A record with the clients that speak for it, by its key.
type ByCaller<'k, 'c> = HashMap<(&'k str, &'k str), (Arc<Record>, Vec<&'c Client>)>;

/// Why a node takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Node,
    Address,
}

/// What a client that sets its topics is held against.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) key: ClientKey,
    pub(crate) address: IpAddr,
    pub(crate) caller: Caller,
    pub(crate) resumes: bool,
}

#[derive(Default)]
struct State {
    clients: HashMap<ClientKey, Client>,
    ids: HashMap<ClientId, ClientKey>,
    addresses: HashMap<IpAddr, Usage>,
    /// By collection and record as they are written in topics, then by the whole text.
    topics: HashMap<Arc<str>, HashMap<Arc<str>, Entry>>,
    bound: HashMap<AuthKey, HashSet<ClientKey>>,
    last_key: u64,
    topic_count: usize,
    topic_bytes: usize,
    /// Clients with a topic of records.
    following: usize,
    /// Clients that are about to have one.
    reserved: usize,
    /// When the last of these went.
    unwanted_since: Option<Instant>,
    generations: Generations,
    /// Whether a client ever asked to be told where its messages stand.
    has_resuming: bool,
}

/// Numbers that rise before it is looked at again whether a record can still sign in, by a hash of its key. Two
/// records that share one cost each other a second look.
struct Generations {
    by_place: Box<[u64]>,
    hasher: RandomState,
}

/// What is known of a caller who is about to be bound: that nothing was looked at since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation {
    place: usize,
    number: u64,
}

/// What the streams of one address take.
#[derive(Default)]
struct Usage {
    clients: usize,
    topics: usize,
    topic_bytes: usize,
}

struct Client {
    id: ClientId,
    outlet: usize,
    place: Place,
    address: IpAddr,
    resumes: bool,
    caller: Caller,
    topics: Vec<Arc<Topic>>,
    topic_bytes: usize,
}

struct Entry {
    topic: Arc<Topic>,
    members: HashSet<ClientKey>,
    /// Until a member comes, goes, or speaks for somebody else.
    audience: Option<Arc<Audience>>,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(limits: Limits) -> Hub {
        Hub { state: Mutex::default(), limits }
    }

    /// Takes a client in.
    pub(crate) fn register(
        self: &Arc<Hub>,
        id: ClientId,
        address: IpAddr,
        outlet: usize,
        place: Place,
        resumes: bool,
    ) -> Result<Registration, Full> {
        let mut state = self.state();
        if state.clients.len() >= self.limits.clients {
            return Err(Full::Node);
        }
        if state.addresses.get(&address).is_some_and(|usage| usage.clients >= self.limits.clients_per_address)
        {
            return Err(Full::Address);
        }
        state.addresses.entry(address).or_default().clients += 1;
        state.last_key += 1;
        let key = ClientKey(state.last_key);
        let caller = Caller::Guest;
        let client =
            Client { id, outlet, place, address, resumes, caller, topics: Vec::new(), topic_bytes: 0 };
        state.has_resuming |= resumes;
        state.ids.insert(id, key);
        state.clients.insert(key, client);
        Ok(Registration { hub: self.clone(), key })
    }

    /// The client with this id.
    pub(crate) fn find(&self, id: ClientId) -> Option<Known> {
        let state = self.state();
        let key = *state.ids.get(&id)?;
        let client = state.clients.get(&key)?;
        Some(Known { key, address: client.address, caller: client.caller.clone(), resumes: client.resumes })
    }

    /// Sets what a client follows and for whom it speaks, unless whether its caller can sign in was looked at
    /// again since: then nothing is done, and the answer is `false`.
    pub(crate) fn set(
        &self,
        key: ClientKey,
        caller: Caller,
        topics: Vec<Topic>,
        generation: Option<Generation>,
    ) -> Result<bool, Full> {
        let mut state = self.state();
        if generation.is_some_and(|generation| !state.generations.is_current(generation)) {
            return Ok(false);
        }
        let Some(client) = state.clients.get(&key) else { return Ok(true) };
        let bytes: usize = topics.iter().map(|topic| topic.text().len()).sum();
        let (had, had_bytes) = (client.topics.len(), client.topic_bytes);
        if state.topic_count - had + topics.len() > self.limits.topics
            || state.topic_bytes - had_bytes + bytes > self.limits.topic_bytes
        {
            return Err(Full::Node);
        }
        let of_address =
            state.addresses.get(&client.address).map_or((0, 0), |usage| (usage.topics, usage.topic_bytes));
        if of_address.0 - had + topics.len() > self.limits.topics_per_address
            || of_address.1 - had_bytes + bytes > self.limits.topic_bytes_per_address
        {
            return Err(Full::Address);
        }
        state.clear_topics(key);
        state.set_caller(key, caller);
        state.follow(key, topics, bytes);
        Ok(true)
    }

    /// To be taken before a caller is read who is to be bound by [`Hub::set`].
    pub(crate) fn generation(&self, key: &AuthKey) -> Generation {
        self.state().generations.of(key)
    }

    /// Whether a client ever asked to be told where its messages stand.
    pub(crate) fn has_resuming(&self) -> bool {
        self.state().has_resuming
    }

    /// Where a client's stream is.
    pub(crate) fn seat_of(&self, key: ClientKey) -> Seats {
        Seats::of(self.state().clients.get(&key).into_iter())
    }

    /// Who follows what is said of a record: each topic with its audience, and whether it names the record. All
    /// who do, or one.
    pub(crate) fn interested(
        &self,
        names: [&str; 2],
        record: &str,
        only: Option<ClientKey>,
    ) -> Vec<(Arc<Topic>, bool, Arc<Audience>)> {
        let mut found = Vec::new();
        let mut state = self.state();
        let State { topics, clients, .. } = &mut *state;
        let names = if names[0] == names[1] { &names[..1] } else { &names[..] };
        for name in names {
            for (base, is_record) in [
                ((*name).to_owned(), false),
                (format!("{name}/*"), false),
                (format!("{name}/{record}"), true),
            ] {
                for entry in topics.get_mut(base.as_str()).into_iter().flat_map(HashMap::values_mut) {
                    let audience = match only {
                        None => entry.audience(clients),
                        Some(key) if entry.members.contains(&key) => {
                            Arc::new(Audience::of(clients.get(&key).into_iter()))
                        }
                        Some(_) => continue,
                    };
                    found.push((entry.topic.clone(), is_record, audience));
                }
            }
        }
        found
    }

    /// Whether anybody follows records, or did within this time.
    pub(crate) fn is_wanted(&self, linger: std::time::Duration) -> bool {
        self.state().is_wanted(linger)
    }

    /// Runs `stop` if nobody wants events; who wants some from then on finds that out.
    pub(crate) fn stop_unless_wanted(&self, linger: std::time::Duration, stop: impl FnOnce()) -> bool {
        let state = self.state();
        let is_wanted = state.is_wanted(linger);
        if !is_wanted {
            stop();
        }
        !is_wanted
    }

    /// Keeps events coming for one that is about to follow some.
    pub(crate) fn reserve(self: &Arc<Hub>) -> Reservation {
        self.state().reserved += 1;
        Reservation(self.clone())
    }

    /// The records that streams speak for: all, or this one if it is among them. From now on nobody is bound by
    /// what was read before.
    pub(crate) fn begin_verification(&self, only: Option<&AuthKey>) -> Vec<AuthKey> {
        let mut state = self.state();
        match only {
            Some(key) => {
                state.generations.raise(key);
                state.bound.contains_key(key).then(|| key.clone()).into_iter().collect()
            }
            None => {
                state.generations.raise_all();
                state.bound.keys().cloned().collect()
            }
        }
    }

    /// Has every stream of a record speak for what `verified` makes of its caller.
    pub(crate) fn verified(&self, key: &AuthKey, verified: impl Fn(&Arc<Record>) -> Caller) {
        let mut state = self.state();
        let clients: Vec<ClientKey> = state.bound.get(key).into_iter().flatten().copied().collect();
        for client in clients {
            let Some(caller) = state.clients.get(&client).and_then(|client| client.caller.record()) else {
                continue;
            };
            let caller = verified(caller);
            state.set_caller(client, caller);
        }
    }

    /// Has a stream speak for a guest, if it still speaks for this record.
    pub(crate) fn unbind(&self, key: ClientKey, record: &Arc<Record>) {
        let mut state = self.state();
        let caller = state.clients.get(&key).and_then(|client| client.caller.record());
        if caller.is_some_and(|caller| Arc::ptr_eq(caller, record)) {
            state.set_caller(key, Caller::Guest);
        }
    }

    /// Where the streams are that speak for a record.
    pub(crate) fn seats_of(&self, key: &AuthKey) -> Seats {
        let state = self.state();
        let clients = state.bound.get(key).into_iter().flatten();
        Seats::of(clients.filter_map(|client| state.clients.get(client)))
    }

    /// Where the streams are that follow records.
    pub(crate) fn seats_of_followers(&self) -> Seats {
        let state = self.state();
        Seats::of(state.clients.values().filter(|client| client.follows_records()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps events coming; see [`Hub::reserve`].
pub(crate) struct Reservation(Arc<Hub>);

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reserved -= 1;
        state.note_wanted();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        state.clear_topics(self.key);
        state.set_caller(self.key, Caller::Guest);
        let Some(client) = state.clients.remove(&self.key) else { return };
        state.ids.remove(&client.id);
        if let MapEntry::Occupied(mut usage) = state.addresses.entry(client.address) {
            usage.get_mut().clients -= 1;
            if usage.get().clients == 0 {
                usage.remove();
            }
        }
    }
}

/// The key of a record.
pub(crate) fn auth_key(record: &Record) -> AuthKey {
    (record.collection.id.clone(), record.id().to_owned())
}

// === impl State ===

impl State {
    fn is_wanted(&self, linger: std::time::Duration) -> bool {
        self.following > 0
            || self.reserved > 0
            || self.unwanted_since.is_some_and(|since| since.elapsed() < linger)
    }

    fn note_wanted(&mut self) {
        let is_wanted = self.following > 0 || self.reserved > 0;
        self.unwanted_since = (!is_wanted).then(Instant::now);
    }

    fn follow(&mut self, key: ClientKey, topics: Vec<Topic>, bytes: usize) {
        let mut followed = Vec::with_capacity(topics.len());
        for topic in topics {
            let of_base = match self.topics.get_mut(topic.base()) {
                Some(of_base) => of_base,
                None => self.topics.entry(topic.base().into()).or_default(),
            };
            let entry = of_base.entry(topic.text().clone()).or_insert_with(|| Entry::new(topic));
            entry.audience = None;
            // A text that was sent twice is one topic.
            if entry.members.insert(key) {
                followed.push(entry.topic.clone());
            }
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        self.topic_count += followed.len();
        self.topic_bytes += bytes;
        let usage = self.addresses.entry(client.address).or_default();
        usage.topics += followed.len();
        usage.topic_bytes += bytes;
        client.topics = followed;
        client.topic_bytes = bytes;
        self.following += usize::from(client.follows_records());
        self.note_wanted();
    }

    fn clear_topics(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        self.following -= usize::from(client.follows_records());
        let topics = std::mem::take(&mut client.topics);
        let bytes = std::mem::take(&mut client.topic_bytes);
        self.topic_count -= topics.len();
        self.topic_bytes -= bytes;
        if let Some(usage) = self.addresses.get_mut(&client.address) {
            usage.topics -= topics.len();
            usage.topic_bytes -= bytes;
        }
        for topic in topics {
            let Some(of_base) = self.topics.get_mut(topic.base()) else { continue };
            if let Some(entry) = of_base.get_mut(topic.text()) {
                entry.members.remove(&key);
                entry.audience = None;
                if entry.members.is_empty() {
                    of_base.remove(topic.text());
                }
            }
            if of_base.is_empty() {
                self.topics.remove(topic.base());
            }
        }
        self.note_wanted();
    }

    fn set_caller(&mut self, key: ClientKey, caller: Caller) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let old = std::mem::replace(&mut client.caller, caller);
        if let Some(record) = old.record()
            && let MapEntry::Occupied(mut bound) = self.bound.entry(auth_key(record))
        {
            bound.get_mut().remove(&key);
            if bound.get().is_empty() {
                bound.remove();
            }
        }
        if let Some(record) = client.caller.record() {
            self.bound.entry(auth_key(record)).or_default().insert(key);
        }
        for topic in &client.topics {
            let of_base = self.topics.get_mut(topic.base());
            if let Some(entry) = of_base.and_then(|of_base| of_base.get_mut(topic.text())) {
                entry.audience = None;
            }
        }
    }
}

// === impl Generations ===

impl Generations {
    const PLACES: usize = 1_024;

    fn place(&self, key: &AuthKey) -> usize {
        self.hasher.hash_one(key) as usize % Generations::PLACES
    }

    fn of(&self, key: &AuthKey) -> Generation {
        let place = self.place(key);
        Generation { place, number: self.by_place[place] }
    }

    fn is_current(&self, generation: Generation) -> bool {
        self.by_place[generation.place] == generation.number
    }

    fn raise(&mut self, key: &AuthKey) {
        self.by_place[self.place(key)] += 1;
    }

    fn raise_all(&mut self) {
        self.by_place.iter_mut().for_each(|number| *number += 1);
    }
}

impl Default for Generations {
    fn default() -> Generations {
        Generations { by_place: vec![0; Generations::PLACES].into(), hasher: RandomState::new() }
    }
}

// === impl Client ===

impl Client {
    fn follows_records(&self) -> bool {
        self.topics.iter().any(|topic| topic::is_of_records(topic.text()))
    }
}

// === impl Entry ===

impl Entry {
    fn new(topic: Topic) -> Entry {
        Entry { topic: Arc::new(topic), members: HashSet::new(), audience: None }
    }

    fn audience(&mut self, clients: &HashMap<ClientKey, Client>) -> Arc<Audience> {
        let members = &self.members;
        let audience = self
            .audience
            .get_or_insert_with(|| Arc::new(Audience::of(members.iter().filter_map(|key| clients.get(key)))));
        audience.clone()
    }
}

// === impl Audience ===

impl Audience {
    fn of<'c>(clients: impl Iterator<Item = &'c Client>) -> Audience {
        let (mut guests, mut everyone, mut superusers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut records, mut each_superuser) = (ByCaller::new(), ByCaller::new());
        for client in clients {
            let (all, each) = match &client.caller {
                Caller::Guest => {
                    guests.push(client);
                    everyone.push(client);
                    continue;
                }
                Caller::Record(_) => (&mut everyone, &mut records),
                Caller::Superuser(_) => (&mut superusers, &mut each_superuser),
            };
            all.push(client);
            if let Some(record) = client.caller.record() {
                let key = (record.collection.id.as_str(), record.id());
                each.entry(key).or_insert_with(|| (record.clone(), Vec::new())).1.push(client);
            }
        }
        let seated = |callers: ByCaller<'_, 'c>| {
            callers.into_values().map(|(record, clients)| (record, Seats::of(clients.into_iter()))).collect()
        };
        Audience {
            everyone: Seats::of(everyone.into_iter()),
            guests: Seats::of(guests.into_iter()),
            records: seated(records),
            superusers: Seats::of(superusers.into_iter()),
            each_superuser: seated(each_superuser),
        }
    }
}

// === impl Seats ===

impl Seats {
    fn of<'c>(clients: impl Iterator<Item = &'c Client>) -> Seats {
        let mut places: Vec<Vec<Place>> = Vec::new();
        for client in clients {
            if places.len() <= client.outlet {
                places.resize_with(client.outlet + 1, Vec::new);
            }
            places[client.outlet].push(client.place);
        }
        let places = places.into_iter().enumerate().filter(|(_, places)| !places.is_empty());
        Seats(places.map(|(outlet, places)| (outlet, places.into())).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of several.
    pub(crate) fn merged(several: &[&Seats]) -> Seats {
        if let [one] = several {
            return (*one).clone();
        }
        let mut places: Vec<Vec<Place>> = Vec::new();
        for (outlet, seats) in several.iter().flat_map(|seats| &seats.0) {
            if places.len() <= *outlet {
                places.resize_with(outlet + 1, Vec::new);
            }
            places[*outlet].extend_from_slice(seats);
        }
        let places = places.into_iter().enumerate().filter(|(_, places)| !places.is_empty());
        Seats(places.map(|(outlet, places)| (outlet, places.into())).collect())
    }
}
