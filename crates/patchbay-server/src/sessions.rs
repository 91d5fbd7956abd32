//! Sequences whose keys stay for a while, so that later generations go on with them, from any of their tokens.
//!
//! A session does not change: a generation that goes on with it takes a copy of the keys that it needs, and is a session of its own if it is
//! kept. So any number of them may go on from the same place. Sessions are forgotten when nobody has gone on with them for as
//! long as was asked for, and before that, those first that were used least lately, where their memory is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use patchbay_engine::Held;
use patchbay_generate::Sequence;
use uuid::Uuid;

use crate::caller::Caller;
use crate::model::Loaded;
use crate::wire::session::{SessionBody, SessionTokens};
use crate::{Failure, Service};

/// Sessions that a caller may have; the one that was used least lately makes room for another.
const MOST: usize = 256;

/// Kept sequences.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) rows: Vec<Sequence>,
    /// Blocks that did not run, so that there are no keys of theirs.
    pub(crate) skipped: BTreeSet<usize>,
    /// The model whose keys they are.
    model: Weak<Loaded>,
    /// The model as the answer named it.
    name: String,
    bytes: u64,
    keep: Duration,
    used: Mutex<Instant>,
    /// The memory of the keys.
    _held: Option<Held>,
}

/// Everybody's sessions.
#[derive(Debug, Default)]
pub struct SessionStore(Mutex<Sessions>);

/// By their owner and their name.
type Sessions = BTreeMap<(Arc<str>, String), Arc<Session>>;

impl Session {
    /// Of what rows have become, whose keys took this memory.
    pub(crate) fn new(
        rows: Vec<Sequence>,
        skipped: BTreeSet<usize>,
        (model, name): (&Arc<Loaded>, &str),
        keep: Duration,
        mut held: Option<Held>,
    ) -> Self {
        let bytes = rows.iter().map(|row| row.history.cache().bytes() as u64).sum();
        if let Some(held) = &mut held {
            held.shrink(bytes);
        }
        let (model, used) = (Arc::downgrade(model), Mutex::new(Instant::now()));
        Self { rows, skipped, model, name: name.to_owned(), bytes, keep, used, _held: held }
    }

    /// Whether its keys are those of a model.
    pub(crate) fn is_of(&self, model: &Arc<Loaded>) -> bool {
        std::ptr::eq(self.model.as_ptr(), Arc::as_ptr(model))
    }

    /// The model as the answer named it.
    pub(crate) fn model(&self) -> &str {
        &self.name
    }

    fn used(&self) -> MutexGuard<'_, Instant> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> Instant {
        *self.used() + self.keep
    }

    fn view(&self, id: &str) -> SessionBody {
        SessionBody {
            id: id.to_owned(),
            model: self.name.clone(),
            lengths: self.rows.iter().map(|row| row.ids.len()).collect(),
            bytes: self.bytes,
            expires_in: self.ends().saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64,
        }
    }
}

impl SessionStore {
    /// The sessions that have not come to their end.
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        sessions.retain(|_, session| session.ends() > now && session.model.strong_count() > 0);
        sessions
    }

    /// A session with which a request goes on.
    pub(crate) fn take_up(&self, caller: &Caller, id: &str) -> Result<Arc<Session>, Failure> {
        let session = self.find(caller, id)?;
        *session.used() = Instant::now();
        Ok(session)
    }

    fn find(&self, caller: &Caller, id: &str) -> Result<Arc<Session>, Failure> {
        let key = (Arc::clone(caller.owner()), id.to_owned());
        self.sessions().get(&key).cloned().ok_or_else(|| unknown(id))
    }

    /// The caller's sessions.
    pub fn list(&self, caller: &Caller) -> Vec<SessionBody> {
        let sessions = self.sessions();
        let own = sessions.iter().filter(|((owner, _), _)| owner == caller.owner());
        own.map(|((_, id), session)| session.view(id)).collect()
    }

    /// The tokens of a session.
    ///
    /// # Errors
    /// Status 404 where the caller has no such session.
    pub fn tokens(&self, caller: &Caller, id: &str) -> Result<SessionTokens, Failure> {
        let session = self.find(caller, id)?;
        let ids: Vec<Vec<u32>> = session.rows.iter().map(|row| row.ids.clone()).collect();
        let tokenizer = session.model.upgrade().and_then(|model| model.tokenizer.clone());
        let text = |ids: &Vec<u32>| {
            let tokenizer = tokenizer.as_ref()?;
            Some(ids.iter().map(|id| tokenizer.token_text(*id)).collect())
        };
        Ok(SessionTokens { session: session.view(id), tokens: ids.iter().map(text).collect(), ids })
    }

    /// Forgets a session.
    ///
    /// # Errors
    /// Status 404 where the caller has no such session.
    pub fn remove(&self, caller: &Caller, id: &str) -> Result<(), Failure> {
        let key = (Arc::clone(caller.owner()), id.to_owned());
        self.sessions().remove(&key).map(drop).ok_or_else(|| unknown(id))
    }

    /// Forgets the session that was used least lately, so that its memory is free. Whether there was one.
    pub(crate) fn evict(&self) -> bool {
        let mut sessions = self.sessions();
        evict(&mut sessions, |_| true)
    }

    /// When the next session comes to its end.
    fn next_end(&self) -> Option<Instant> {
        self.sessions().values().map(|session| session.ends()).min()
    }
}

fn evict(sessions: &mut Sessions, may: impl Fn(&Arc<str>) -> bool) -> bool {
    let own = sessions.iter().filter(|((owner, _), _)| may(owner));
    let oldest = own.min_by_key(|(_, session)| *session.used()).map(|(key, _)| key.clone());
    oldest.is_some_and(|key| sessions.remove(&key).is_some())
}

fn unknown(id: &str) -> Failure {
    Failure::new(404, "unknown_session", format!("there is no session `{id}`")).hint(
        "sessions are forgotten after a while, and earlier where their memory is needed; GET /v1/sessions lists them",
    )
}

impl Service {
    /// The callers' sessions.
    pub fn sessions(&self) -> &SessionStore {
        &self.sessions
    }

    /// Keeps a session, and sees that it ends.
    pub(crate) fn keep_session(self: &Arc<Self>, caller: &Caller, session: Session) -> SessionBody {
        let id = format!("session-{}", Uuid::new_v4().simple());
        let view = session.view(&id);
        let mut sessions = self.sessions.sessions();
        let own = |owner: &Arc<str>| owner == caller.owner();
        if sessions.keys().filter(|(owner, _)| own(owner)).count() >= MOST {
            evict(&mut sessions, own);
        }
        let first = sessions.is_empty();
        sessions.insert((Arc::clone(caller.owner()), id), Arc::new(session));
        drop(sessions);
        if first {
            tokio::spawn(end_sessions(Arc::downgrade(self)));
        }
        view
    }
}

/// Forgets sessions when they end, as long as there are any.
async fn end_sessions(service: Weak<Service>) {
    // one that is kept anew may end before those that are there
    const LOOK: Duration = Duration::from_secs(1);
    while service.upgrade().is_some_and(|service| service.sessions.next_end().is_some()) {
        tokio::time::sleep(LOOK).await;
    }
}
