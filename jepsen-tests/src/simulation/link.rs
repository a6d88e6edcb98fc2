//! A client's connection to a member: what the gRPC door does, between the simulated network and the
//! coordinator.
//!
//! The door's two halves are here without HTTP: requests go into the session's inbox in the order
//! sent, replies and events come out of its outbox in batches. A client that vanishes is noticed by
//! the member later, so that an old connection goes on for a while beside a new one.

use std::time::Duration;

use quorate_core::error::Error;
use quorate_core::id::Zxid;
use quorate_core::reply::Attachment;
use quorate_server::coordinator::connection::{Connect, Connection};
use quorate_server::sessions::inbox::Incoming;
use quorate_server::sessions::outbox::Outgoing;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::life::Node;
use super::network::Network;

/// Messages of one direction under way.
const UNDER_WAY: usize = 256;
/// Messages taken from an outbox at once, as the gRPC door does.
const FRAME_MESSAGES: usize = 256;
/// How long a client waits for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// The member's greeting.
#[derive(Clone, Copy, Debug)]
pub struct Greeting {
    /// The session.
    pub attachment: Attachment,
    /// The last transaction applied there.
    pub zxid: Zxid,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum NoLink {
    /// Nobody answered, or the connection broke.
    Broken,
    /// The member refused.
    Refused(Error),
}

/// From a member to its client.
pub enum Down {
    /// A reply, an event, an answered heartbeat.
    Message(Outgoing),
    /// The member ends the connection.
    Ended(Option<Error>),
}

/// From a client to its member.
enum Up {
    Request(Box<Incoming>),
    Goodbye,
}

/// A connection, at the client's end. Dropping it is vanishing; see [`Link::goodbye`].
pub struct Link {
    network: Network,
    up: mpsc::Sender<(Instant, Up)>,
    up_last: Instant,
    down: mpsc::Receiver<Down>,
}

/// Connects to a member.
pub async fn connect(
    network: &Network,
    client: Node,
    member: Node,
    hello: Connect,
) -> Result<(Link, Greeting), NoLink> {
    let (greet, greeted) = oneshot::channel();
    let (up, up_received) = mpsc::channel(UNDER_WAY);
    let (down_sent, down_under_way) = mpsc::channel(UNDER_WAY);
    let way = network.clone();
    network.carry(async move {
        if way.arrive(client, member, way.arrival()).await.is_err() {
            return;
        }
        let Some((life, coordinator)) = way.find(member).and_then(|found| Some((found.life, found.clients?)))
        else {
            return;
        };
        let serving = life.clone();
        life.spawn(async move {
            let outcome = coordinator.connect(hello).await;
            if !serving.is_alive() {
                return;
            }
            let at = way.arrival();
            let (told, connection) = match outcome {
                Ok(connection) => (
                    Ok(Greeting { attachment: connection.attachment, zxid: connection.zxid }),
                    Some(connection),
                ),
                Err(error) => (Err(error), None),
            };
            let back = way.clone();
            way.carry(async move {
                if back.arrive(member, client, at).await.is_ok() {
                    let _ = greet.send(told);
                }
            });
            if let Some(connection) = connection {
                let serving = Serving { network: way, life: serving, client, member, first_arrival: at };
                serving.run(connection, up_received, down_sent).await;
            }
        });
    });
    match timeout(PATIENCE, greeted).await {
        Ok(Ok(Ok(greeting))) => {
            network.trace.note(format_args!("c{client} at {member} {:?}", greeting.attachment));
            let up_last = Instant::now();
            let (arrived, down) = mpsc::channel(UNDER_WAY);
            network.carry(deliver(network.clone(), member, client, down_under_way, arrived));
            Ok((Link { network: network.clone(), up, up_last, down }, greeting))
        }
        Ok(Ok(Err(error))) => {
            network.trace.note(format_args!("c{client} refused by {member}: {error}"));
            Err(NoLink::Refused(error))
        }
        Ok(Err(_)) | Err(_) => Err(NoLink::Broken),
    }
}

impl Link {
    /// Sends a request; false if it cannot be sent.
    pub fn send(&mut self, request: Incoming) -> bool {
        self.push(Up::Request(Box::new(request)))
    }

    /// Says goodbye: what was sent before is still answered.
    pub fn goodbye(&mut self) {
        self.push(Up::Goodbye);
    }

    fn push(&mut self, up: Up) -> bool {
        self.up_last = self.up_last.max(self.network.arrival());
        self.up.try_send((self.up_last, up)).is_ok()
    }

    /// The next message; `None` when the connection broke.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn receive(&mut self) -> Option<Down> {
        self.down.recv().await
    }
}

/// Lets messages arrive at the client, each at its time, for as long as it listens.
async fn deliver(
    network: Network,
    member: Node,
    client: Node,
    mut under_way: mpsc::Receiver<(Instant, Down)>,
    arrived: mpsc::Sender<Down>,
) {
    let delivering = async {
        loop {
            let (at, down) = tokio::select! {
                biased;
                received = under_way.recv() => match received {
                    Some(received) => received,
                    None => return,
                },
                () = network.given_up(member, client) => return,
            };
            if network.arrive(member, client, at).await.is_err() || arrived.send(down).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = arrived.closed() => {}
        () = delivering => {}
    }
}

/// The member's end.
struct Serving {
    network: Network,
    life: super::life::Life,
    client: Node,
    member: Node,
    first_arrival: Instant,
}

impl Serving {
    async fn run(
        self,
        connection: Connection,
        mut up: mpsc::Receiver<(Instant, Up)>,
        down: mpsc::Sender<(Instant, Down)>,
    ) {
        let Connection { inbox, mut outbox, closer, guard, .. } = connection;
        let reading = async {
            loop {
                let received = tokio::select! {
                    biased;
                    received = up.recv() => received,
                    () = self.network.given_up(self.client, self.member) => None,
                };
                let Some((at, up)) = received else {
                    // The client has vanished; that is noticed a little later.
                    let _ = self.network.arrive(self.client, self.member, self.network.arrival()).await;
                    break;
                };
                if self.network.arrive(self.client, self.member, at).await.is_err() {
                    break;
                }
                match up {
                    Up::Goodbye => {
                        drop(inbox);
                        return std::future::pending().await;
                    }
                    Up::Request(request) => {
                        if inbox.send(*request).await.is_err() {
                            return std::future::pending().await; // the outbox says why
                        }
                    }
                }
            }
            closer.close(Error::new(quorate_core::error::ErrorKind::Unavailable, "the connection broke"));
        };
        let writing = async {
            let mut last = self.first_arrival;
            loop {
                let taken = outbox.take(FRAME_MESSAGES).await;
                if !self.life.is_alive() {
                    return;
                }
                last = last.max(self.network.arrival());
                let (messages, is_last) = match taken {
                    Ok(messages) if messages.is_empty() => (vec![Down::Ended(None)], true),
                    Ok(messages) => (messages.into_iter().map(Down::Message).collect(), false),
                    Err(error) => (vec![Down::Ended(Some(error))], true),
                };
                for message in messages {
                    if down.send((last, message)).await.is_err() {
                        return;
                    }
                }
                if is_last {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = reading => {}
            () = writing => {}
        }
        drop(guard);
    }
}
