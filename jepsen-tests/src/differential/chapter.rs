//! A chapter: some hundred steps from one seed, from a clean tree to a clean tree.
//!
//! Every chapter can be played alone, because all it leaves behind are counters that both sides share.

use super::Failure;
use super::compare::Mapping;
use super::generator::{Generator, Step};
use super::request::{Field, Request};
use super::servers::Servers;
use super::side::{Item, SLOTS, Side};

/// Steps a chapter, its cleaning up not counted.
const STEPS: usize = 150;
/// The superuser's credential.
const SUPERUSER: &[u8] = b"super:test";
/// A clean tree has these alone.
const KEPT: [&str; 3] = ["/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// What came of a chapter.
#[derive(Debug, Default)]
pub struct Played {
    /// Requests answered alike.
    pub requests: u64,
    /// Events heard alike.
    pub events: u64,
    /// Steps played.
    pub steps: u64,
    /// The first thing that was not alike.
    pub difference: Option<String>,
}

/// See the file's comment.
pub struct Chapter<'a> {
    generator: Generator,
    zookeeper: Side,
    quorate: Side,
    mapping: &'a mut Mapping,
    transcript: Vec<String>,
    played: Played,
}

/// The chapter ends here: both sides differ, or one failed.
enum End {
    Difference(String),
    Failure(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failure(failure)
    }
}

impl<'a> Chapter<'a> {
    /// Not played yet.
    pub fn new(seed: u64, number: u64, servers: &Servers, mapping: &'a mut Mapping) -> Chapter<'a> {
        Chapter {
            generator: Generator::new(seed, number, servers.is_3_9()),
            zookeeper: Side::new("ZooKeeper", &servers.zookeeper),
            quorate: Side::new("Quorate", &servers.quorate),
            mapping,
            transcript: Vec::new(),
            played: Played::default(),
        }
    }

    /// Plays it.
    pub fn play(&mut self) -> Result<Played, Failure> {
        match self.play_all() {
            Ok(()) => {}
            Err(End::Difference(difference)) => self.played.difference = Some(difference),
            Err(End::Failure(failure)) => {
                self.show_transcript();
                return Err(failure);
            }
        }
        Ok(std::mem::take(&mut self.played))
    }

    /// Every step played, and what it was answered.
    pub fn show_transcript(&self) {
        for line in &self.transcript {
            println!("{line}");
        }
    }

    fn play_all(&mut self) -> Result<(), End> {
        for slot in 0..SLOTS {
            self.step(&Step::Open { slot, timeout_ms: 40_000, with_read_only: slot > 0 })?;
        }
        // Something to stand on: most random paths would miss.
        let planted = ["/a", "/b", "/a/x", "/a/y", "/b/x"];
        let requests = planted.iter().map(|path| Request::create(path)).collect();
        self.step(&Step::Batch { slot: 0, requests })?;
        for _ in 0..STEPS {
            let step = self.generator.next(&self.zookeeper.states());
            self.step(&step)?;
        }
        self.clean_up()
    }

    /// Plays one step on both sides and compares; what the acting slot was told by ZooKeeper.
    fn step(&mut self, step: &Step) -> Result<Vec<Item>, End> {
        self.transcript.push(format!("{step}"));
        let theirs = self.zookeeper.play(step)?;
        let ours = self.quorate.play(step)?;
        for (slot, items) in &theirs {
            self.transcript.extend(
                items
                    .iter()
                    .filter(|item| !is_fence(*slot, step, item))
                    .map(|item| format!("    {slot}: {item}")),
            );
        }
        self.played.steps += 1;
        for ((slot, theirs), (_, ours)) in theirs.iter().zip(&ours) {
            for item in theirs {
                match item {
                    Item::Reply { .. } => self.played.requests += 1,
                    Item::Event { .. } => self.played.events += 1,
                    _ => {}
                }
            }
            if let Err(difference) = self.mapping.compare(theirs, ours, step.ends_session()) {
                let list =
                    |items: &[Item]| items.iter().map(|item| format!("\n      {item}")).collect::<String>();
                return Err(End::Difference(format!(
                    "{step}\n  slot {slot}: {difference}\n    ZooKeeper said:{}\n    Quorate said:{}",
                    list(theirs),
                    list(ours)
                )));
            }
        }
        let own = theirs.into_iter().next().map(|(_, items)| items).unwrap_or_default();
        self.generator.learn(&own);
        Ok(own)
    }

    /// Ends all sessions and removes all nodes.
    fn clean_up(&mut self) -> Result<(), End> {
        for (slot, (is_connected, has_session)) in self.zookeeper.states().into_iter().enumerate() {
            if has_session {
                if !is_connected {
                    self.step(&Step::Resume { slot, wrong_password: false, from_the_future: false })?;
                }
                self.step(&Step::Batch { slot, requests: vec![Request::close()] })?;
            }
        }
        let slot = SLOTS - 1;
        self.step(&Step::Open { slot, timeout_ms: 40_000, with_read_only: true })?;
        self.step(&Step::Batch { slot, requests: vec![Request::auth("digest", SUPERUSER)] })?;
        self.step(&Step::Batch { slot, requests: self.generator.reset_root() })?;
        let mut doomed = vec!["/".to_owned()];
        let mut next = 0;
        while let Some(path) = doomed.get(next).cloned() {
            next += 1;
            let items = self.step(&Step::Batch { slot, requests: vec![Request::children(&path)] })?;
            let prefix = if path == "/" { "" } else { &path };
            for name in names(&items) {
                let child = format!("{prefix}/{name}");
                if doomed.len() > 100_000 {
                    return Err(End::Difference("more nodes than a chapter can make".into()));
                }
                doomed.push(child);
            }
        }
        doomed.retain(|path| path != "/" && !KEPT.contains(&path.as_str()));
        for paths in doomed.iter().rev().collect::<Vec<_>>().chunks(20) {
            let requests = paths.iter().map(|path| Request::delete(path)).collect();
            self.step(&Step::Batch { slot, requests })?;
        }
        self.step(&Step::Batch { slot, requests: vec![Request::close()] })?;
        Ok(())
    }
}

fn is_fence(slot: usize, step: &Step, item: &Item) -> bool {
    slot != step.slot() && matches!(item, Item::Reply { .. })
}

/// The names in the answer to a list.
fn names(items: &[Item]) -> Vec<String> {
    let mut names = Vec::new();
    for item in items {
        if let Item::Reply { fields, .. } = item
            && let Some(Field::Set(children)) = fields.first()
        {
            names.extend(children.iter().flatten().filter_map(|field| match field {
                Field::Text(name) => Some(name.clone()),
                _ => None,
            }));
        }
    }
    names
}
