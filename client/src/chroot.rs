//! A client's own root: paths go out below it and come back relative to it.

use std::sync::Arc;

use crate::error::{Error, Result};

/// The prefix of all of a client's paths; empty for the cluster's own root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chroot(Arc<str>);

impl Chroot {
    /// A root at `path`. "/" and "" are the cluster's own.
    pub(crate) fn new(path: &str) -> Result<Chroot> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() && !path.starts_with('/') {
            return Err(Error::BadArguments(format!("chroot {path:?} must start with \"/\"")));
        }
        Ok(Chroot(path.into()))
    }

    /// The cluster's path for a path of the client. What is no path stays none: the cluster says so.
    pub(crate) fn outward(&self, path: &str) -> String {
        match path {
            "/" if !self.0.is_empty() => self.0.to_string(),
            _ if !path.starts_with('/') => path.to_string(),
            _ => format!("{}{path}", self.0),
        }
    }

    /// Whether a path of the cluster is this root or below it.
    pub(crate) fn contains(&self, path: &str) -> bool {
        self.below(path).is_some()
    }

    /// The client's path for a path of the cluster. A path outside the root stays as it is.
    pub(crate) fn inward(&self, path: String) -> String {
        match self.below(&path) {
            Some("") if !self.0.is_empty() => "/".into(),
            Some(rest) if !self.0.is_empty() => rest.into(),
            _ => path,
        }
    }

    /// What is left of a path of the cluster behind this root, if it is inside.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_out_and_come_back() {
        for (root, path, outward) in [
            ("", "/", "/"),
            ("/", "/a", "/a"),
            ("/app", "/", "/app"),
            ("/app/", "/a/b", "/app/a/b"),
            ("/app", "/application", "/app/application"),
        ] {
            let chroot = Chroot::new(root).expect("a root");
            assert_eq!(chroot.outward(path), outward);
            assert_eq!(chroot.inward(outward.into()), path);
        }
    }

    #[test]
    fn a_sibling_with_the_same_prefix_is_not_inside() {
        let chroot = Chroot::new("/app").expect("a root");
        assert_eq!(chroot.inward("/application".into()), "/application");
        assert_eq!(
            chroot.outward("relative"),
            "relative",
            "what is no path is left for the cluster to refuse"
        );
    }

    #[test]
    fn a_relative_root_is_refused() {
        assert!(Chroot::new("app").is_err());
    }
}
