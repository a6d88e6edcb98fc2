//! Network faults without root: a proxy in front of each member, on an address of its own of loopback.
//!
//! ```text
//!   harness  ──┐
//!   member 1 ──┼──▶ 127.0.0.2:port, told to everybody ── proxy ──▶ 127.0.0.1:port, where member 2 listens
//!   member 3 ──┘
//! ```
//!
//! Who has connected is read from the kernel's tables: the connection's inode, and which member's
//! process holds it; nobody else's is the harness'. A proxy moves bytes, not frames: over a cut it
//! lets them wait, and what a wire loses or reorders only comes late here, for that is what TCP makes
//! of it. None arrives twice ([`super::Network::moves_frames`]). It knows nothing of what the bytes mean.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as Bound};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{HARNESS, Weather};

/// Where members listen.
pub(super) const BEHIND: &str = "127.0.0.1";
/// Where everybody connects.
pub(super) const FRONT: &str = "127.0.0.2";

/// Fronts that may wait for the thread: more than a cluster has.
const FRONTS: usize = 256;
/// Read at once.
const CHUNK: usize = 16 << 10;
/// Chunks of a stream that wait; beyond that its sender waits.
const CHUNKS: usize = 64;
/// How often it is looked at whether a cut was mended.
const LOOK: Duration = Duration::from_millis(5);
/// How long TCP takes to send again what was lost: the least on Linux.
const SENT_AGAIN: Duration = Duration::from_millis(200);
/// How long what arrives early waits for what it has overtaken.
const OVERTAKEN: Duration = Duration::from_millis(30);

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<HashMap<(u8, u8), Weather>>,
    /// The members' processes: whose connections are whose.
    processes: Mutex<HashMap<u8, u32>>,
}

/// The address of one door of one member.
#[derive(Debug)]
struct Front {
    place: u8,
    listener: Bound,
    address: SocketAddr,
    behind: SocketAddr,
}

/// The proxies and their thread: dropping it ends all.
#[derive(Debug)]
pub(super) struct Proxies {
    shared: Arc<Shared>,
    fronts: Option<mpsc::Sender<Front>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxies {
    pub(super) fn start() -> io::Result<Proxies> {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let (fronts, opened) = mpsc::channel(FRONTS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("proxies".into())
            .spawn(move || runtime.block_on(serve(theirs, opened)))?;
        Ok(Proxies { shared, fronts: Some(fronts), thread: Some(thread) })
    }

    /// A front for the door that a member has at this port.
    pub(super) fn open(&self, place: u8, port: u16) -> io::Result<()> {
        let address = SocketAddr::new(parse(FRONT), port);
        let listener = Bound::bind(address)?;
        listener.set_nonblocking(true)?;
        let front = Front { place, listener, address, behind: SocketAddr::new(parse(BEHIND), port) };
        let fronts = self.fronts.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        fronts.try_send(front).map_err(io::Error::other)
    }

    /// A member's process, from now on.
    pub(super) fn runs(&self, place: u8, pid: u32) {
        lock(&self.shared.processes).insert(place, pid);
    }

    pub(super) fn set(&self, from: u8, to: u8, weather: Weather) {
        lock(&self.shared.rules).insert((from, to), weather);
    }

    pub(super) fn calm(&self) {
        lock(&self.shared.rules).clear();
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.fronts.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the proxies panicked");
        }
    }
}

impl Shared {
    fn weather(&self, way: (u8, u8)) -> Weather {
        lock(&self.rules).get(&way).copied().unwrap_or_default()
    }

    /// Returns once nothing is cut this way.
    async fn mended(&self, way: (u8, u8)) {
        while self.weather(way).is_cut {
            sleep(LOOK).await;
        }
    }

    /// How long the next bytes take this way.
    fn delay(&self, way: (u8, u8)) -> Duration {
        let weather = self.weather(way);
        let (least, most) = weather.delay_ms;
        let mut delay = Duration::from_millis(if most > least { fastrand::u64(least..most) } else { least });
        if fastrand::u32(..1000) < weather.lost {
            delay += SENT_AGAIN;
        }
        if fastrand::u32(..1000) < weather.overtaken {
            delay += OVERTAKEN;
        }
        delay
    }

    /// Whose connection this is.
    fn owner(&self, from: SocketAddr, to: SocketAddr) -> u8 {
        let Some(socket) = inode(from, to).map(|inode| format!("socket:[{inode}]")) else { return HARNESS };
        let holds = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files
                .filter_map(|file| std::fs::read_link(file.path()).ok())
                .any(|link| link.to_str() == Some(socket.as_str()))
        };
        let processes = lock(&self.processes).clone();
        processes.into_iter().find(|(_, pid)| holds(*pid)).map_or(HARNESS, |(place, _)| place)
    }
}

/// The inode of the connection between these two, as its beginner's side has it.
fn inode(from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let (from, to) = (kernel_form(from)?, kernel_form(to)?);
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = *fields.get(1)? == from && *fields.get(2)? == to;
        if is_it { fields.get(9)?.parse().ok() } else { None }
    })
}

/// An address as /proc/net/tcp writes it.
fn kernel_form(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()))
}

async fn serve(shared: Arc<Shared>, mut opened: mpsc::Receiver<Front>) {
    let mut fronts = JoinSet::new();
    while let Some(front) = opened.recv().await {
        fronts.spawn(accept(shared.clone(), front));
    }
}

async fn accept(shared: Arc<Shared>, front: Front) {
    let Front { place, listener, address, behind } = front;
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        let way = (shared.owner(from, address), place);
                        // How it ended is for both sides to see, in their own streams.
                        let _ = carry(&shared, stream, way, behind).await;
                    });
                }
                // Out of files, say: they come back.
                Err(_) => sleep(LOOK).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries a connection for as long as both sides want it.
async fn carry(shared: &Shared, client: TcpStream, way: (u8, u8), behind: SocketAddr) -> io::Result<()> {
    let back = (way.1, way.0);
    // The first packets of a connection go both ways, and over a cut they arrive later.
    shared.mended(way).await;
    shared.mended(back).await;
    let member = TcpStream::connect(behind).await?;
    client.set_nodelay(true)?;
    member.set_nodelay(true)?;
    let (client_reads, client_writes) = client.into_split();
    let (member_reads, member_writes) = member.into_split();
    tokio::try_join!(
        pump(shared, client_reads, member_writes, way),
        pump(shared, member_reads, client_writes, back)
    )?;
    Ok(())
}

/// One way of a connection, in order, until its sender has ended it.
async fn pump(
    shared: &Shared,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: (u8, u8),
) -> io::Result<()> {
    let (sender, mut late) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let reading = async move {
        let mut last = Instant::now();
        loop {
            let mut bytes = vec![0; CHUNK];
            let count = from.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            bytes.truncate(count);
            last = last.max(Instant::now() + shared.delay(way));
            if sender.send((last, bytes)).await.is_err() {
                return Ok::<(), io::Error>(());
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = late.recv().await {
            sleep_until(due).await;
            shared.mended(way).await;
            to.write_all(&bytes).await?;
        }
        // That it ends is said over the same wire.
        shared.mended(way).await;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}

fn parse(address: &str) -> IpAddr {
    address.parse().expect("a constant of this file")
}

/// The values are plain: they are whole even if a holder panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Stream;

    use super::*;

    /// A member that says back what it hears, and its front; the test's process is `place` 2's, so
    /// that what connects from here is taken for that member.
    fn echoing(proxies: &Proxies) -> SocketAddr {
        let listener = Bound::bind((BEHIND, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        proxies.open(1, port).expect("free on the other address too");
        proxies.runs(2, std::process::id());
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            }
        });
        SocketAddr::new(parse(FRONT), port)
    }

    fn echoes(stream: &mut Stream, patience: Duration) -> bool {
        stream.set_read_timeout(Some(patience)).expect("a socket");
        stream.write_all(b"x").expect("open");
        stream.read_exact(&mut [0]).is_ok()
    }

    #[test]
    fn bytes_wait_at_a_cut_between_two_members_and_come_once_it_is_mended() {
        let proxies = Proxies::start().expect("a thread");
        let address = echoing(&proxies);
        let mut stream = Stream::connect(address).expect("a front");
        assert!(echoes(&mut stream, Duration::from_secs(10)));
        // A rule of others is none of ours; one for this way is, in either direction.
        proxies.set(HARNESS, 1, Weather::cut());
        assert!(echoes(&mut stream, Duration::from_secs(10)));
        for way in [(2, 1), (1, 2)] {
            proxies.set(way.0, way.1, Weather::cut());
            assert!(!echoes(&mut stream, Duration::from_millis(100)));
            proxies.calm();
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            stream.read_exact(&mut [0]).expect("what waited comes");
        }
    }
}
