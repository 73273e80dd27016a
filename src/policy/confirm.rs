//! Questions that a person must answer before a task with `confirm: true` runs.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::model::{Definition, ProjectId, TaskName, TimeMs};

/// How long a question may be answered (`spec/protocol.md` §3).
const LIFE_MS: i64 = 60_000;
/// Questions open at one time; at the cap the oldest is forgotten, as if it had expired.
const OPEN: usize = 256;

/// What exactly was shown to the person: a hash over command, directory and environment, each with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a definition; the terminal's size has no part in it.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        put(definition.command.as_bytes());
        put(definition.cwd.as_os_str().as_encoded_bytes());
        for (name, value) in &definition.env {
            put(name.as_bytes());
            put(value.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// Who was asked about what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The credential of the caller (`Actor::credential`).
    pub credential: String,
    /// The project.
    pub project: ProjectId,
    /// The task.
    pub task: TaskName,
}

/// An open question: an id is good for one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who was asked about what.
    pub subject: Subject,
    /// What would run.
    pub fingerprint: Fingerprint,
    /// What the launch asked for, kept until the answer.
    pub definition: Definition,
    /// When the answer comes too late.
    pub expires_at: TimeMs,
    /// Order of asking.
    turn: u64,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// 410: the id is unknown, of another caller or project, used, or too old. Which of them is not told.
    #[error("this confirmation has expired or was used; run the task again")]
    Gone,
    /// 409: the task is not what the person was shown.
    #[error("the task has changed since it was shown; run it again to see what it does now")]
    Changed,
}

/// Questions without an answer, in memory only: none survives a restart of the daemon.
#[derive(Debug, Default)]
pub struct Confirmations {
    open: BTreeMap<String, Question>,
    asked: u64,
}

impl Confirmations {
    /// Remembers a question under `id`, which the caller drew at random, and says when it expires.
    pub fn ask(&mut self, id: String, subject: Subject, definition: Definition, now: TimeMs) -> TimeMs {
        self.open.retain(|_, question| question.is_open(now));
        while self.open.len() >= OPEN {
            let oldest = self.open.iter().min_by_key(|(_, question)| question.turn);
            let Some(id) = oldest.map(|(id, _)| id.clone()) else { break };
            self.open.remove(&id);
        }
        self.asked += 1;
        let expires_at = now.plus_ms(LIFE_MS);
        let fingerprint = Fingerprint::of(&definition);
        self.open.insert(id, Question { subject, fingerprint, definition, expires_at, turn: self.asked });
        expires_at
    }

    /// Takes the answer of `credential` in `project`; the id is used up whatever comes next. A wrong caller does not
    /// use it up.
    ///
    /// # Errors
    /// [`Rejected::Gone`].
    pub fn take(
        &mut self,
        id: &str,
        credential: &str,
        project: &ProjectId,
        now: TimeMs,
    ) -> Result<Question, Rejected> {
        let question = self.open.get(id).ok_or(Rejected::Gone)?;
        if question.subject.credential != credential || question.subject.project != *project {
            return Err(Rejected::Gone);
        }
        self.open.remove(id).filter(|question| question.is_open(now)).ok_or(Rejected::Gone)
    }
}

impl Question {
    /// Whether what would run now is what was shown.
    ///
    /// # Errors
    /// [`Rejected::Changed`].
    pub fn matches(&self, now: Option<&Definition>) -> Result<(), Rejected> {
        let same = now.is_some_and(|definition| Fingerprint::of(definition) == self.fingerprint);
        if same { Ok(()) } else { Err(Rejected::Changed) }
    }

    /// A clock that went back far ends a question too, else it would stay open for as long; a small correction does not.
    fn is_open(&self, now: TimeMs) -> bool {
        (self.expires_at.0 - 2 * LIFE_MS..self.expires_at.0).contains(&now.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Size;

    fn definition(command: &str, cwd: &str, env: &[(&str, &str)]) -> Definition {
        Definition {
            command: command.to_owned(),
            cwd: cwd.into(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            size: Size::DEFAULT,
        }
    }

    fn project(id: &str) -> ProjectId {
        id.parse().unwrap()
    }

    fn subject() -> Subject {
        let task = "deploy".parse().unwrap();
        Subject { credential: "token:1".to_owned(), project: project("demo"), task }
    }

    fn asked(id: &str) -> Confirmations {
        let mut table = Confirmations::default();
        let expires = table.ask(id.to_owned(), subject(), definition("make", "/a", &[]), TimeMs(1000));
        assert_eq!(expires, TimeMs(61_000));
        table
    }

    #[test]
    fn an_id_is_good_once_for_a_minute_and_for_who_was_asked() {
        let check = |id: &str, credential: &str, in_project: &str, now: i64, ok: bool| {
            let mut table = asked("x");
            let answer = table.take(id, credential, &project(in_project), TimeMs(now));
            assert_eq!(answer.is_ok(), ok, "{id} {credential} {in_project} {now}");
            table
        };
        let mut used = check("x", "token:1", "demo", 60_999, true);
        assert_eq!(used.take("x", "token:1", &project("demo"), TimeMs(1001)), Err(Rejected::Gone));
        check("x", "token:1", "demo", 61_000, false);
        check("y", "token:1", "demo", 1001, false);
        check("x", "token:1", "demo", 999, true);
        check("x", "token:1", "demo", -59_001, false);
        let mut kept = check("x", "token:2", "demo", 1001, false);
        assert!(kept.take("x", "token:1", &project("demo"), TimeMs(1001)).is_ok());
        let mut kept = check("x", "token:1", "other", 1001, false);
        assert!(kept.take("x", "token:1", &project("demo"), TimeMs(1001)).is_ok());
    }

    #[test]
    fn any_change_of_what_would_run_is_noticed() {
        let shown = definition("make", "/a", &[("A", "1"), ("B", "2")]);
        let mut table = Confirmations::default();
        table.ask("x".to_owned(), subject(), shown.clone(), TimeMs(0));
        let question = table.take("x", "token:1", &project("demo"), TimeMs(1)).unwrap();
        let wider = Definition { size: Size::clamped(200, 50).unwrap(), ..shown.clone() };
        assert_eq!(question.matches(Some(&shown)), Ok(()));
        assert_eq!(question.matches(Some(&wider)), Ok(()));
        let others = [
            definition("make ", "/a", &[("A", "1"), ("B", "2")]),
            definition("make", "/b", &[("A", "1"), ("B", "2")]),
            definition("make", "/a", &[("A", "1")]),
            definition("make", "/a", &[("A", "1B"), ("", "2")]),
            definition("mak", "e/a", &[("A", "1"), ("B", "2")]),
        ];
        for other in &others {
            assert_eq!(question.matches(Some(other)), Err(Rejected::Changed), "{other:?}");
        }
        assert_eq!(question.matches(None), Err(Rejected::Changed));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut table = asked("first");
        for n in 0..OPEN {
            table.ask(format!("id-{n}"), subject(), definition("make", "/a", &[]), TimeMs(1000));
        }
        assert_eq!(table.open.len(), OPEN);
        let mut take = |id: &str| table.take(id, "token:1", &project("demo"), TimeMs(1001)).is_ok();
        assert_eq!([take("first"), take("id-0"), take("id-255")], [false, true, true]);
        table.ask("late".to_owned(), subject(), definition("make", "/a", &[]), TimeMs(100_000));
        assert_eq!(table.open.len(), 1);
    }
}
