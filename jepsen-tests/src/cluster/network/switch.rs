//! The switch: a thread that reads frames from every card and writes them to the one that they are
//! for, as the rules between the two allow.
//!
//! It knows Ethernet and nothing above: a cut connection is one whose frames do not arrive, and the
//! kernels on both sides make of it what they make of a broken cable. Frames that wait are bounded;
//! beyond that they are lost, as in any switch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Frames that wait for their time; more are lost.
const WAITING_MAX: usize = 20_000;
/// How long the thread sleeps at most: within this it notices new cards and its end.
const NAP: Duration = Duration::from_millis(20);
/// How much later a reordered frame arrives: others overtake it.
const OVERTAKEN_BY: Duration = Duration::from_millis(30);
/// A frame with its header, at the cards' usual size.
const FRAME_BYTES: usize = 2048;
/// IPv4, in a frame's header: everything else is the kernels' small talk.
const IPV4: [u8; 2] = [0x08, 0x00];

/// What happens to frames from one place to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// None arrives.
    pub is_cut: bool,
    /// How long each takes, from and to, in milliseconds; they stay in order.
    pub delay_ms: (u64, u64),
    /// How many of a thousand are lost.
    pub lost: u32,
    /// How many of a thousand arrive twice.
    pub doubled: u32,
    /// How many of a thousand are overtaken by those behind them.
    pub overtaken: u32,
}

impl Weather {
    /// Nothing arrives.
    pub fn cut() -> Weather {
        Weather { is_cut: true, ..Weather::default() }
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<HashMap<(u8, u8), Weather>>,
    cards: Mutex<Vec<(u8, Arc<File>)>>,
    stop: AtomicBool,
}

/// The thread's owner: dropping it ends the thread and closes the cards.
#[derive(Debug)]
pub(super) struct Switch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    pub(super) fn start() -> std::io::Result<Switch> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::Builder::new().name("switch".into()).spawn(move || serve(&theirs))?;
        Ok(Switch { shared, thread: Some(thread) })
    }

    pub(super) fn plug(&self, place: u8, card: File) {
        lock(&self.shared.cards).push((place, Arc::new(card)));
    }

    pub(super) fn set(&self, from: u8, to: u8, weather: Weather) {
        lock(&self.shared.rules).insert((from, to), weather);
    }

    pub(super) fn calm(&self) {
        lock(&self.shared.rules).clear();
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the switch panicked");
        }
    }
}

/// The values are plain: they are whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame that waits: when it is due, its place among those that are due then, for whom, what.
type Late = (Instant, u64, u8, Vec<u8>);

/// Frames that wait, the earliest first; equal times keep their order.
#[derive(Default)]
struct Waiting {
    heap: BinaryHeap<Reverse<Late>>,
    count: u64,
    /// When the last ordered frame of each way is due.
    last: HashMap<(u8, u8), Instant>,
}

impl Waiting {
    fn push(&mut self, due: Instant, to: u8, frame: &[u8]) {
        if self.heap.len() < WAITING_MAX {
            self.count += 1;
            self.heap.push(Reverse((due, self.count, to, frame.to_vec())));
        }
    }
}

fn serve(shared: &Shared) {
    let mut random = fastrand::Rng::new();
    let mut waiting = Waiting::default();
    let mut frame = [0; FRAME_BYTES];
    while !shared.stop.load(Ordering::Relaxed) {
        let cards = lock(&shared.cards).clone();
        let now = Instant::now();
        while let Some(Reverse((due, _, _, _))) = waiting.heap.peek()
            && *due <= now
        {
            if let Some(Reverse((_, _, to, frame))) = waiting.heap.pop() {
                deliver(&cards, to, &frame);
            }
        }
        let next = waiting.heap.peek().map(|Reverse((due, ..))| due.saturating_duration_since(now));
        let nap = next.unwrap_or(NAP).min(NAP);
        let mut ready: Vec<PollFd<'_>> =
            cards.iter().map(|(_, card)| PollFd::new(card.as_ref(), PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: nap.subsec_nanos().max(10_000).into() };
        if poll(&mut ready, Some(&timeout)).is_err() {
            // Interrupted: look again.
            continue;
        }
        let readable: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for ((from, card), is_readable) in cards.iter().zip(readable) {
            while is_readable && let Ok(length) = card.as_ref().read(&mut frame) {
                if let Some(to) = destination(&frame[..length]) {
                    let weather = lock(&shared.rules).get(&(*from, to)).copied().unwrap_or_default();
                    forward(&cards, &mut waiting, &mut random, weather, (*from, to), &frame[..length]);
                }
            }
        }
    }
}

/// For whom a frame is, by the last byte of its hardware address.
fn destination(frame: &[u8]) -> Option<u8> {
    let is_one = *frame.first()? & 1 == 0;
    (frame.get(12..14)? == IPV4 && is_one).then_some(frame[5])
}

fn forward(
    cards: &[(u8, Arc<File>)],
    waiting: &mut Waiting,
    random: &mut fastrand::Rng,
    weather: Weather,
    way: (u8, u8),
    frame: &[u8],
) {
    if weather.is_cut || random.u32(..1000) < weather.lost {
        return;
    }
    let now = Instant::now();
    let (least, most) = weather.delay_ms;
    let delay = Duration::from_millis(if most > least { random.u64(least..most) } else { least });
    let mut due = now + delay;
    if random.u32(..1000) < weather.overtaken {
        due += OVERTAKEN_BY;
    } else {
        // A way keeps its order, also when its delay has just ended.
        due = due.max(waiting.last.get(&way).copied().unwrap_or(due));
        waiting.last.insert(way, due);
    }
    let copies = 1 + usize::from(random.u32(..1000) < weather.doubled);
    for _ in 0..copies {
        match due <= now {
            true => deliver(cards, way.1, frame),
            false => waiting.push(due, way.1, frame),
        }
    }
}

fn deliver(cards: &[(u8, Arc<File>)], to: u8, frame: &[u8]) {
    if let Some((_, card)) = cards.iter().find(|(place, _)| *place == to) {
        // A card that takes nothing loses the frame, as cards do.
        let _ = card.as_ref().write(frame);
    }
}
