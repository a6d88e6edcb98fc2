//! What watches tell.

use std::sync::Arc;

use quorate_core::change::{EventBody, EventKind, Value, WatchEvent};
use quorate_core::request::WatchId;

use super::{WireError, required};
use crate::v1;

impl From<EventKind> for v1::EventKind {
    fn from(kind: EventKind) -> v1::EventKind {
        match kind {
            EventKind::NodeCreated => v1::EventKind::NodeCreated,
            EventKind::NodeDeleted => v1::EventKind::NodeDeleted,
            EventKind::NodeDataChanged => v1::EventKind::NodeDataChanged,
            EventKind::NodeChildrenChanged => v1::EventKind::NodeChildrenChanged,
        }
    }
}

fn event_kind(kind: i32) -> Result<EventKind, WireError> {
    match v1::EventKind::try_from(kind) {
        Ok(v1::EventKind::NodeCreated) => Ok(EventKind::NodeCreated),
        Ok(v1::EventKind::NodeDeleted) => Ok(EventKind::NodeDeleted),
        Ok(v1::EventKind::NodeDataChanged) => Ok(EventKind::NodeDataChanged),
        Ok(v1::EventKind::NodeChildrenChanged) => Ok(EventKind::NodeChildrenChanged),
        Ok(v1::EventKind::Unspecified) | Err(_) => {
            Err(WireError::UnknownValue { field: "event.kind", value: kind })
        }
    }
}

impl From<&WatchEvent> for v1::WatchEvent {
    /// The body is shared with other connections, so its path is copied; its value is not.
    fn from(event: &WatchEvent) -> v1::WatchEvent {
        let body = &event.body;
        let value = event.with_value.then(|| match &body.value {
            Value::Kept(data) => v1::EventValue { data: data.clone(), not_kept: false },
            Value::NotKept => v1::EventValue { data: None, not_kept: true },
        });
        v1::WatchEvent {
            position: Some(body.position.into()),
            kind: v1::EventKind::from(body.kind).into(),
            path: body.path.to_string(),
            stat: Some(body.stat.into()),
            value,
            watch_ids: event.watches.iter().map(|id| id.0).collect(),
        }
    }
}

impl TryFrom<v1::WatchEvent> for WatchEvent {
    type Error = WireError;

    fn try_from(event: v1::WatchEvent) -> Result<WatchEvent, WireError> {
        let with_value = event.value.is_some();
        let value = match event.value {
            Some(v1::EventValue { data, not_kept: false }) => Value::Kept(data),
            Some(v1::EventValue { not_kept: true, .. }) | None => Value::NotKept,
        };
        let body = EventBody {
            position: required(event.position, "event.position")?.into(),
            kind: event_kind(event.kind)?,
            path: event.path.into(),
            stat: required(event.stat, "event.stat")?.into(),
            value,
        };
        Ok(WatchEvent {
            body: Arc::new(body),
            with_value,
            watches: event.watch_ids.into_iter().map(WatchId).collect(),
        })
    }
}

impl From<&WatchEvent> for v1::ServerMessage {
    fn from(event: &WatchEvent) -> v1::ServerMessage {
        v1::ServerMessage { message: Some(v1::server_message::Message::Event(event.into())) }
    }
}
