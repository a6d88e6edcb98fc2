//! Which write registers an instance.
//!
//! A registration creates the instance's node. One that stands already is replaced, in one
//! transaction, by a higher generation; updated by whoever owns it; and kept against anybody else.
//! Each write names the registration and the version that it judged, so a race ends in a refusal
//! (`GuardFailed` or `BadVersion`) and another look. The version alone would not do: a registration
//! that takes another's place begins at version 0 again.

use super::service::Entry;
use super::{Instance, ServiceName};
use crate::acl::AclEntry;
use crate::command::{Create, Guard, MultiOperation, Operation};
use crate::error::{Error, ErrorKind};
use crate::id::SessionId;
use crate::znode::CreateMode;

/// The write that registers `instance`, given what stands there now. `session`: whose life the
/// instance shares; without one it lasts until it is removed.
///
/// # Errors
/// [`ErrorKind::NodeExists`] if another owner's registration of the same or a higher generation
/// stands there; those of [`Instance::validate`].
pub fn register(
    service: &ServiceName,
    instance: &Instance,
    session: Option<SessionId>,
    existing: Option<&Entry>,
) -> Result<Operation, Error> {
    instance.validate()?;
    let Some(existing) = existing else {
        return Ok(Operation::Create(creation(service, instance, session)));
    };
    let owner = session.unwrap_or_default();
    let (mine, theirs) = (instance.generation, existing.instance.generation);
    if mine > theirs {
        return replace(service, instance, session, existing);
    }
    if mine == theirs && owner == existing.owner {
        return change(service, existing, instance);
    }
    Err(Error::new(
        ErrorKind::NodeExists,
        format!(
            "instance {} of {service} is registered with generation {theirs}; \
             a higher generation than that replaces it",
            instance.id
        ),
    ))
}

/// The write that puts an instance in the place of one as it was seen, whosever that is.
///
/// # Errors
/// Those of [`Instance::validate`].
pub fn replace(
    service: &ServiceName,
    instance: &Instance,
    session: Option<SessionId>,
    existing: &Entry,
) -> Result<Operation, Error> {
    instance.validate()?;
    let create = creation(service, instance, session);
    let path = create.path.clone();
    let delete = MultiOperation::Delete { path: path.clone(), version: existing.version };
    Ok(judged(path, existing, [delete, MultiOperation::Create(create)]))
}

fn creation(service: &ServiceName, instance: &Instance, session: Option<SessionId>) -> Create {
    Create {
        path: service.instance_path(&instance.id),
        data: Some(instance.encode()),
        acl: AclEntry::open(),
        mode: if session.is_some() { CreateMode::Ephemeral } else { CreateMode::Persistent },
    }
}

/// The write that changes a registered instance's record and nothing of its life.
///
/// # Errors
/// Those of [`Instance::validate`].
pub fn change(service: &ServiceName, existing: &Entry, instance: &Instance) -> Result<Operation, Error> {
    instance.validate()?;
    let path = service.instance_path(&instance.id);
    let data = Some(instance.encode());
    let set = MultiOperation::SetData { path: path.clone(), data, version: existing.version };
    Ok(judged(path, existing, [set]))
}

/// The write that removes an instance as it was seen.
pub fn deregister(service: &ServiceName, existing: &Entry) -> Operation {
    let path = service.instance_path(&existing.instance.id);
    let delete = MultiOperation::Delete { path: path.clone(), version: existing.version };
    judged(path, existing, [delete])
}

/// These operations on an instance's node, as long as it is still that of the registration judged.
fn judged(path: String, existing: &Entry, operations: impl IntoIterator<Item = MultiOperation>) -> Operation {
    let guard = MultiOperation::Guard(Guard::Created { path, zxid: existing.registered });
    Operation::Multi(std::iter::once(guard).chain(operations).collect())
}
