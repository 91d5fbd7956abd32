//! Turns by weighted fair queueing.
//!
//! Everybody has a tag: the virtual time up to which they have had their share. Whoever is not ahead of the virtual time has a
//! turn, and among them the one whose turn would end first; it moves the tag by work over weight, and the virtual time by
//! work over the weight of all who wait or are ahead. These are the rules of WF²Q+ (Bennett and Zhang, "Hierarchical packet fair queueing
//! algorithms", 1997): as long as somebody waits, they never have less than their weight's share less the largest job of
//! anybody, nor more than it and their own largest job.

use std::collections::BTreeMap;

/// Who takes turns.
#[derive(Clone, Debug)]
pub struct Turns<K> {
    parties: BTreeMap<K, Party>,
    /// Virtual time: work over weight that everybody who waits has had.
    time: f64,
}

#[derive(Clone, Debug)]
struct Party {
    weight: f64,
    tag: f64,
    waits: bool,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { parties: BTreeMap::new(), time: 0.0 }
    }
}

impl<K: Ord + Clone> Turns<K> {
    /// Has somebody wait, with a weight above 0. What they had before beyond their share still counts; what they did not take
    /// while they were away does not.
    pub fn join(&mut self, key: &K, weight: f64) {
        let (time, weight) = (self.now(), if weight > 0.0 { weight } else { f64::MIN_POSITIVE });
        match self.parties.get_mut(key) {
            Some(party) if party.waits => party.weight = weight,
            Some(party) => *party = Party { weight, tag: party.tag.max(time), waits: true },
            None => drop(self.parties.insert(key.clone(), Party { weight, tag: time, waits: true })),
        }
    }

    /// Somebody waits no more.
    pub fn leave(&mut self, key: &K) {
        self.time = self.now();
        if let Some(party) = self.parties.get_mut(key) {
            party.waits = false;
        }
    }

    /// Whose turn it is among those who would do some `work` next; nobody's where nobody waits for any.
    pub fn next(&self, work: impl Fn(&K) -> Option<f64>) -> Option<(K, f64)> {
        let waiting = self.parties.iter().filter(|(_, party)| party.waits);
        let meant: Vec<_> = waiting.filter_map(|(key, party)| Some((key, party, work(key)?))).collect();
        let time = meant.iter().map(|(_, party, _)| party.tag).min_by(f64::total_cmp)?.max(self.time);
        let due = meant.into_iter().filter(|(_, party, _)| party.tag <= time);
        let ends = due.map(|(key, party, work)| (key, work, party.tag + work / party.weight));
        let (key, work, _) = ends.min_by(|a, b| a.2.total_cmp(&b.2))?;
        Some((key.clone(), work))
    }

    /// Somebody has had a turn of so much work.
    pub fn charge(&mut self, key: &K, work: f64) {
        self.time = self.now();
        let time = self.time;
        // who left ahead of the others counts until these have caught up, as if it were still being served
        let there = self.parties.values().filter(|party| party.waits || party.tag > time);
        let weight: f64 = there.map(|party| party.weight).sum();
        if let Some(party) = self.parties.get_mut(key) {
            party.tag += work / party.weight;
            self.time += work / weight.max(f64::MIN_POSITIVE);
        }
    }

    /// Forgets those who wait for nothing and owe nothing.
    pub fn forget(&mut self) {
        if !self.parties.values().any(|party| party.waits) {
            // nobody to be fair to
            *self = Self::default();
        }
        let time = self.now();
        self.parties.retain(|_, party| party.waits || party.tag > time);
    }

    /// Whether somebody waits or is remembered.
    pub fn knows(&self, key: &K) -> bool {
        self.parties.contains_key(key)
    }

    /// Virtual time: never behind all who wait, so that somebody always has a turn.
    fn now(&self) -> f64 {
        let tags = self.parties.values().filter(|party| party.waits).map(|party| party.tag);
        let first = tags.min_by(f64::total_cmp);
        first.map_or(self.time, |first| self.time.max(first))
    }
}
