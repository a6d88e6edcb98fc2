//! `quorated dev`: a whole cluster in one process, on loopback, with nothing to configure.
//!
//! Each member is as real as under `serve`: its own thread and runtime, its own ports, its own
//! directory and fsyncs. Only the process is shared.

use std::path::{Path, PathBuf};
use std::thread;

use futures_util::future::try_join_all;
use tokio::sync::{oneshot, watch};

use crate::config::Settings;
use crate::environment::Environment;
use crate::logging;
use crate::server::{self, ServerError};

/// Ports of one member: clients, peers, HTTP.
fn ports(base: u16, index: u64) -> Result<(u16, u16, u16), ServerError> {
    let first = u64::from(base) + 10 * (index - 1);
    let port = |offset: u64| u16::try_from(first + offset).map_err(|_| ServerError::DevPorts { base });
    Ok((port(0)?, port(1)?, port(80)?))
}

/// The port of one member for ZooKeeper clients; none if they are not served.
fn zookeeper_port(base: u16, index: u64) -> Result<Option<u16>, ServerError> {
    let port = u16::try_from(u64::from(base) + index - 1).map_err(|_| ServerError::DevPorts { base })?;
    Ok((base > 0).then_some(port))
}

/// Runs `members` members until SIGINT or SIGTERM. `zookeeper_base` is 0 for no ZooKeeper door.
pub fn run(
    members: u64,
    data_dir: Option<PathBuf>,
    base: u16,
    zookeeper_base: u16,
) -> Result<(), ServerError> {
    logging::install(false, "warn,quorate_server=warn,openraft=error");
    let scratch = match &data_dir {
        Some(_) => None,
        None => Some(Scratch::new().map_err(ServerError::Scratch)?),
    };
    let directory = match (&data_dir, &scratch) {
        (Some(directory), _) => directory.clone(),
        (None, Some(scratch)) => scratch.path.clone(),
        (None, None) => return Err(ServerError::DevPorts { base }),
    };
    let mut founders = Vec::new();
    for index in 1..=members {
        let (client, peer, _) = ports(base, index)?;
        founders.push(format!("{index}=127.0.0.1:{peer}/127.0.0.1:{client}"));
    }
    let founders = founders.join(",");
    let (stop, stopped) = watch::channel(false);
    let mut threads = Vec::new();
    let mut readies = Vec::new();
    for index in 1..=members {
        let (client, peer, http) = ports(base, index)?;
        let config = Settings {
            member_id: Some(index),
            data_dir: Some(directory.join(format!("member-{index}"))),
            initial_cluster: Some(founders.clone()),
            cluster_name: Some("dev".into()),
            client_listen: Some(format!("127.0.0.1:{client}")),
            peer_listen: Some(format!("127.0.0.1:{peer}")),
            http_listen: Some(format!("127.0.0.1:{http}")),
            zookeeper_listen: zookeeper_port(zookeeper_base, index)?.map(|port| format!("127.0.0.1:{port}")),
            ..Settings::default()
        }
        .into_config()?;
        let (ready, is_ready) = oneshot::channel();
        let mut stopped = stopped.clone();
        let member = thread::Builder::new()
            .name(format!("member-{index}"))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(ServerError::Runtime)?;
                runtime.block_on(async {
                    let shutdown = async move {
                        // An error means the main thread has gone: stop as well.
                        let _ = stopped.wait_for(|stop| *stop).await;
                    };
                    server::serve(config, Environment::system(), shutdown, ready).await
                })
            })
            .map_err(ServerError::Runtime)?;
        threads.push(member);
        readies.push(is_ready);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServerError::Runtime)?;
    runtime.block_on(async {
        // All at once: a member that cannot start keeps others from ever being ready.
        tokio::select! {
            all = try_join_all(readies) => if all.is_ok() {
                greet(members, base, zookeeper_base, &directory, data_dir.is_none());
                server::stop_signal().await;
            },
            () = server::stop_signal() => {}
        }
    });
    stop.send_replace(true);
    let mut outcome = Ok(());
    for member in threads {
        match member.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => outcome = outcome.and(Err(error)),
            Err(_) => outcome = outcome.and(Err(ServerError::Stopped("a member's thread panicked".into()))),
        }
    }
    outcome
}

/// Says what runs and what to try.
fn greet(members: u64, base: u16, zookeeper_base: u16, directory: &Path, is_temporary: bool) {
    let addresses: Vec<String> =
        (0..members).map(|index| format!("127.0.0.1:{}", u64::from(base) + 10 * index)).collect();
    let note = if is_temporary { " (temporary, removed at the end; keep it with --data-dir)" } else { "" };
    let endpoints = match base {
        7400 => String::new(),
        _ => format!("--endpoints {} ", addresses.join(",")),
    };
    println!("Quorate {}: {members} members run.", env!("CARGO_PKG_VERSION"));
    println!("  clients   {}", addresses.join("  "));
    if zookeeper_base > 0 {
        let ports = (0..members).map(|index| format!("127.0.0.1:{}", u64::from(zookeeper_base) + index));
        println!("  ZooKeeper {}", ports.collect::<Vec<_>>().join("  "));
    }
    println!("  metrics   http://127.0.0.1:{}/metrics", u64::from(base) + 80);
    println!("  data      {}{note}", directory.display());
    println!("Try in another terminal:");
    println!("  quorate {endpoints}create /a hello");
    println!("  quorate {endpoints}get /a");
    println!("  quorate {endpoints}watch --recursive /");
    println!("  quorate {endpoints}cluster status");
    println!("Ctrl-C stops it.");
}

/// A temporary directory, removed when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> std::io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!(
            "quorate-dev-{}-{:08x}",
            std::process::id(),
            Environment::system().random_u64() as u32
        ));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the temporary directory stays");
        }
    }
}
