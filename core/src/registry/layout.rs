//! Names as paths in the tree, and back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::names::check_label;
use crate::error::Error;

/// What all of the registry is below.
pub const ROOT: &str = "/quorate/registry";
/// The namespace that is meant when none is named.
pub const NAMESPACE: &str = "default";

/// A service's name: `namespace/service`, or `service` in the default namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    namespace: Arc<str>,
    service: Arc<str>,
}

impl ServiceName {
    /// A valid name. An empty namespace is the default one.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::BadArguments`] or `TooLarge` for what is no DNS label.
    pub fn new(namespace: &str, service: &str) -> Result<ServiceName, Error> {
        let namespace = if namespace.is_empty() { NAMESPACE } else { namespace };
        check_label("namespace", namespace)?;
        check_label("service", service)?;
        Ok(ServiceName { namespace: namespace.into(), service: service.into() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service within it.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The service's node.
    pub fn path(&self) -> String {
        format!("{ROOT}/{}/{}", self.namespace, self.service)
    }

    /// The parent of its instances.
    pub fn instances_path(&self) -> String {
        format!("{}/instances", self.path())
    }

    /// An instance's node. The id must be valid.
    pub fn instance_path(&self, id: &str) -> String {
        format!("{}/instances/{id}", self.path())
    }

    /// The policy's node.
    pub fn policy_path(&self) -> String {
        format!("{}/policy", self.path())
    }

    /// The nodes above an instance, from the top, each with whether it goes when it is empty.
    pub fn parents(&self) -> Vec<(String, bool)> {
        let path = self.path();
        vec![
            ("/quorate".into(), false),
            (ROOT.into(), false),
            (format!("{ROOT}/{}", self.namespace), true),
            (path.clone(), true),
            (format!("{path}/instances"), true),
        ]
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace == NAMESPACE {
            true => write!(f, "{}", self.service),
            false => write!(f, "{}/{}", self.namespace, self.service),
        }
    }
}

impl FromStr for ServiceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<ServiceName, Error> {
        match text.split_once('/') {
            Some((namespace, service)) => ServiceName::new(namespace, service),
            None => ServiceName::new(NAMESPACE, text),
        }
    }
}

/// What a path below [`ROOT`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// A service's node.
    Service(ServiceName),
    /// The parent of a service's instances.
    Instances(ServiceName),
    /// An instance, whose id is a valid one.
    Instance(ServiceName, &'a str),
    /// A policy.
    Policy(ServiceName),
    /// A child of a service's node or of its instances' node that means nothing here.
    Stray(ServiceName),
    /// Anything else.
    Elsewhere,
}

/// What this path is to the registry.
pub fn place(path: &str) -> Place<'_> {
    let Some(rest) = path.strip_prefix(ROOT).and_then(|rest| rest.strip_prefix('/')) else {
        return Place::Elsewhere;
    };
    let mut parts = rest.split('/');
    let (Some(namespace), Some(service)) = (parts.next(), parts.next()) else { return Place::Elsewhere };
    let Ok(name) = ServiceName::new(namespace, service) else { return Place::Elsewhere };
    match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => Place::Service(name),
        (Some("instances"), None, _) => Place::Instances(name),
        (Some("policy"), None, _) => Place::Policy(name),
        (Some("instances"), Some(id), None) if check_label("id", id).is_ok() => Place::Instance(name, id),
        (Some("instances"), Some(_), None) | (Some(_), None, _) => Place::Stray(name),
        _ => Place::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_match() {
        let name: ServiceName = "shop/orders".parse().expect("valid");
        assert_eq!(name.to_string(), "shop/orders");
        assert_eq!("orders".parse::<ServiceName>().expect("valid").to_string(), "orders");
        assert_eq!(place(&name.path()), Place::Service(name.clone()));
        assert_eq!(place(&name.instances_path()), Place::Instances(name.clone()));
        assert_eq!(place(&name.instance_path("a-1")), Place::Instance(name.clone(), "a-1"));
        assert_eq!(place(&name.policy_path()), Place::Policy(name.clone()));
        assert_eq!(place(&format!("{}/instances/X_Y", name.path())), Place::Stray(name.clone()));
        assert_eq!(place(&format!("{}/notes", name.path())), Place::Stray(name.clone()));
        for path in
            ["/", "/a", ROOT, "/quorate/registry/shop", "/quorate/registryx/a/b", "/quorate/registry/A/b"]
        {
            assert_eq!(place(path), Place::Elsewhere, "{path}");
        }
        assert_eq!(name.parents().last().map(|(path, _)| path.clone()), Some(name.instances_path()));
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in ["", "/", "a/b/c", "../x", "a/", "Orders", "a b", "x/..", "a\0b"] {
            assert!(text.parse::<ServiceName>().is_err(), "{text:?}");
        }
    }
}
