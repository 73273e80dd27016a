//! Reads a TOML table key by key into typed places, and notes every problem on the way.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use crate::project::{Problem, Source, closest};

/// Why a value does not fit its key.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Says what was expected; what to do is plain from that.
pub(super) fn wrong<T>(message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { message: message.into(), hint: None })
}

/// One table of the file, being read.
pub(super) struct Keys<'a> {
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
    table: &'a DeTable<'a>,
    /// The table's name with a dot, or nothing for the top.
    prefix: String,
    known: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    pub(super) fn top(source: &'a Source, table: &'a DeTable<'a>, problems: &'a mut Vec<Problem>) -> Self {
        Self { source, problems, table, prefix: String::new(), known: Vec::new() }
    }

    /// Reads one key, if it is there, into `place`.
    pub(super) fn key<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        match read(value.get_ref()) {
            Ok(it) => *place = it,
            Err(Wrong { message, hint }) => {
                let message = format!("`{}{key}` {message}", self.prefix);
                self.problems.push(self.source.problem(value.span(), message).maybe_hint(hint));
            }
        }
    }

    /// Reads a table below this one.
    pub(super) fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Keys<'_>)) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        let prefix = format!("{}{key}.", self.prefix);
        if let Some(table) = value.get_ref().as_table() {
            let mut keys =
                Keys { source: self.source, problems: &mut *self.problems, table, prefix, known: Vec::new() };
            read(&mut keys);
            keys.finish();
        } else {
            let message = format!("`{}{key}` is a table", self.prefix);
            let hint = format!("write its keys below `[{}{key}]`", self.prefix);
            self.problems.push(self.source.problem(value.span(), message).hint(hint));
        }
    }

    /// Tells of every key that was not asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let message = format!("there is no key `{}{}`", self.prefix, key.get_ref().escape_debug());
            let problem = self.source.problem(key.span(), message);
            self.problems.push(problem.hint(match closest(key.get_ref(), self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            }));
        }
    }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().map_or_else(|| wrong(format!("must be true or false, not {}", described(value))), Ok)
}

pub(super) fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    let hint = Some("write it in double quotes".to_owned());
    let wrong = || Wrong { message: format!("must be text, not {}", described(value)), hint };
    value.as_str().map(str::to_owned).ok_or_else(wrong)
}

/// A whole number in this range.
pub(super) fn integer(range: RangeInclusive<u64>) -> impl FnOnce(&DeValue<'_>) -> Result<u64, Wrong> {
    move |value| {
        let number = value.as_integer().map(|it| u64::from_str_radix(it.as_str(), it.radix()).ok());
        match number {
            Some(Some(number)) if range.contains(&number) => Ok(number),
            Some(_) => wrong(format!("must be {} to {}", range.start(), range.end())),
            None => wrong(format!("must be a whole number, not {}", described(value))),
        }
    }
}

/// A number of seconds, above zero and at most a day.
pub(super) fn seconds(value: &DeValue<'_>) -> Result<std::time::Duration, Wrong> {
    let written = value.as_float().map(|it| it.as_str()).or_else(|| value.as_integer().map(|it| it.as_str()));
    let Some(number) = written.and_then(|it| it.parse::<f64>().ok()) else {
        return wrong(format!("must be a number of seconds, not {}", described(value)));
    };
    if number > 0.0 && number <= 86_400.0 {
        Ok(std::time::Duration::from_secs_f64(number))
    } else {
        wrong("must be more than 0 and at most 86400 seconds")
    }
}

/// A list whose items all read.
pub(super) fn list<T>(
    item: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<T>, Wrong> {
    move |value| match value.as_array() {
        None => wrong(format!("must be a list, not {}", described(value))),
        Some(items) => {
            let read = items.iter().enumerate().map(|(index, it)| {
                item(it.get_ref())
                    .map_err(|bad| Wrong { message: format!("item {}: {}", index + 1, bad.message), ..bad })
            });
            read.collect()
        }
    }
}

/// One of these words.
pub(super) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl FnOnce(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let given = value.as_str();
        let found = given.and_then(|given| words.iter().find(|(word, _)| *word == given));
        found.map(|(_, it)| *it).ok_or_else(|| {
            let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let near = given.and_then(|given| closest(given, words.iter().map(|(word, _)| *word)));
            let message = format!("must be one of {}, not {}", all.join(", "), described(value));
            Wrong { message, hint: near.map(|near| format!("did you mean \"{near}\"?")) }
        })
    }
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            format!("\"{}\"", text.chars().take(40).flat_map(char::escape_debug).collect::<String>())
        }
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(it) => it.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
