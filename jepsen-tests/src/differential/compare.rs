//! What is equal: transactions and sessions by an order-keeping one-to-one mapping, times by
//! presence, all else to the letter.

use std::collections::{BTreeMap, HashMap};

use super::request::Field;
use super::side::Item;

/// The transactions and sessions of ZooKeeper, and which they are here.
#[derive(Debug, Default)]
pub struct Mapping {
    transactions: BTreeMap<i64, i64>,
    sessions: HashMap<i64, i64>,
    sessions_back: HashMap<i64, i64>,
    explained: BTreeMap<&'static str, u64>,
}

impl Mapping {
    /// How many transactions both sides have named.
    pub fn transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Differences that the documentation explains, and how often they were met.
    pub fn explained(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.explained.iter().map(|(what, count)| (*what, *count))
    }

    /// Compares what one slot was told. `any_order`: the events of one transaction may come in any
    /// order among themselves (a session's end deletes its ephemerals in no promised order).
    pub fn compare(&mut self, theirs: &[Item], ours: &[Item], any_order: bool) -> Result<(), String> {
        let (theirs, ours) = match any_order {
            true => (by_path(theirs), by_path(ours)),
            false => (theirs.to_vec(), ours.to_vec()),
        };
        for index in 0..theirs.len().max(ours.len()) {
            match (theirs.get(index), ours.get(index)) {
                (Some(theirs), Some(ours)) => self.compare_item(theirs, ours)?,
                (Some(theirs), None) => return Err(format!("not here: {theirs}")),
                (None, Some(ours)) => return Err(format!("only here: {ours}")),
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn compare_item(&mut self, theirs: &Item, ours: &Item) -> Result<(), String> {
        let differ = |what: String| format!("{what}\n  ZooKeeper: {theirs}\n  Quorate:   {ours}");
        match (theirs, ours) {
            (
                Item::Welcome { session, timeout_ms, read_only },
                Item::Welcome { session: own, timeout_ms: own_timeout, read_only: own_read_only },
            ) => {
                if (timeout_ms, read_only) != (own_timeout, own_read_only) {
                    return Err(differ("welcome".into()));
                }
                self.session(*session, *own).map_err(differ)
            }
            (
                Item::Reply { xid, zxid, error, fields },
                Item::Reply { xid: own_xid, zxid: own_zxid, error: own_error, fields: own_fields },
            ) => {
                if (xid, error) != (own_xid, own_error) {
                    return Err(differ("header".into()));
                }
                self.transaction(*zxid, *own_zxid).map_err(differ)?;
                self.fields(fields, own_fields).map_err(differ)
            }
            (
                Item::Event { zxid, kind, state, path },
                Item::Event { zxid: own_zxid, kind: own_kind, state: own_state, path: own_path },
            ) => {
                if (kind, state, path) != (own_kind, own_state, own_path) {
                    return Err(differ("event".into()));
                }
                if *zxid == -1 && *own_zxid > 0 {
                    *self.explained.entry("events carry no zxid before ZooKeeper 3.9").or_default() += 1;
                    return Ok(());
                }
                self.transaction(*zxid, *own_zxid).map_err(differ)
            }
            (theirs, ours) if theirs == ours => Ok(()),
            _ => Err(differ("kind".into())),
        }
    }

    fn fields(&mut self, theirs: &[Field], ours: &[Field]) -> Result<(), String> {
        if theirs.len() != ours.len() {
            return Err(format!("{} fields and {}", theirs.len(), ours.len()));
        }
        for (index, pair) in theirs.iter().zip(ours).enumerate() {
            match pair {
                (Field::Zxid(theirs), Field::Zxid(ours)) => self.transaction(*theirs, *ours)?,
                (Field::Session(theirs), Field::Session(ours)) => self.session(*theirs, *ours)?,
                (Field::Time(theirs), Field::Time(ours)) if (*theirs == 0) == (*ours == 0) => {}
                (Field::List(theirs), Field::List(ours)) | (Field::Set(theirs), Field::Set(ours))
                    if theirs.len() == ours.len() =>
                {
                    for (theirs, ours) in theirs.iter().zip(ours) {
                        self.fields(theirs, ours)?;
                    }
                }
                (theirs, ours) if theirs == ours => {}
                (theirs, ours) => return Err(format!("field {index}: {theirs} and {ours}")),
            }
        }
        Ok(())
    }

    fn transaction(&mut self, theirs: i64, ours: i64) -> Result<(), String> {
        if theirs <= 0 || ours <= 0 {
            return if theirs == ours { Ok(()) } else { Err(format!("zxid {theirs:#x} and {ours:#x}")) };
        }
        if let Some(known) = self.transactions.get(&theirs) {
            return if *known == ours {
                Ok(())
            } else {
                Err(format!("zxid {theirs:#x} was {known:#x} before, now {ours:#x}"))
            };
        }
        let before = self.transactions.range(..theirs).next_back();
        let after = self.transactions.range(theirs..).next();
        if before.is_some_and(|(_, before)| *before >= ours) || after.is_some_and(|(_, after)| *after <= ours)
        {
            return Err(format!(
                "zxid {theirs:#x} and {ours:#x} are out of order: between {before:x?} and {after:x?}"
            ));
        }
        self.transactions.insert(theirs, ours);
        Ok(())
    }

    fn session(&mut self, theirs: i64, ours: i64) -> Result<(), String> {
        if (theirs == 0) != (ours == 0) {
            return Err(format!("session {theirs:#x} and {ours:#x}"));
        }
        let known = *self.sessions.entry(theirs).or_insert(ours);
        let back = *self.sessions_back.entry(ours).or_insert(theirs);
        if (known, back) == (ours, theirs) {
            Ok(())
        } else {
            Err(format!("session {theirs:#x} was {known:#x} before, now {ours:#x}"))
        }
    }
}

/// Runs of events sorted by their path and kind.
fn by_path(items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    let is_event = |item: &Item| matches!(item, Item::Event { .. });
    for run in items.chunk_by_mut(|left, right| is_event(left) && is_event(right)) {
        run.sort_by_key(|item| match item {
            Item::Event { path, kind, .. } => (path.clone(), *kind),
            _ => (String::new(), 0),
        });
    }
    items
}
