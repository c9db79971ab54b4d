//! What was declared over the API: it goes before `guardian.toml`.
//!
//! A declaration that no longer fits (its upstream is gone from the file) is left out, and so is the route of that name in the
//! file: falling back to that one could open what was closed.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{Conflict, HttpRole, HttpRoute, SnapshotHttp};
use crate::{RoleName, RouteName};

/// Routes and roles that were declared over the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpOverride {
    /// Routes by name, each in the place of the file's route of that name.
    pub routes: BTreeMap<RouteName, HttpRoute>,
    /// Roles by name, each in the place of the file's role of that name.
    pub roles: BTreeMap<RoleName, HttpRole>,
}

/// What is in force, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// What is in force.
    pub http: SnapshotHttp,
    /// What was declared over the API and left out, with the reason.
    pub left_out: Vec<(RouteName, Conflict)>,
}

impl HttpOverride {
    /// Whether nothing was declared over the API.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.roles.is_empty()
    }

    /// The file's word with this one in its place. Refuses what does not fit together.
    pub fn onto(&self, declared: &SnapshotHttp) -> Result<SnapshotHttp, Conflict> {
        let http = self.replace(declared);
        http.check()?;
        Ok(http)
    }

    /// The same, leaving out what does not fit.
    pub fn onto_leniently(&self, declared: &SnapshotHttp) -> Merged {
        let mut http = self.replace(declared);
        let mut left_out = Vec::new();
        // The file's own routes fit each other. Each round takes one route away, and most often there is none.
        while let Err(conflict) = http.check() {
            let named = self.routes.keys().find(|name| {
                conflict
                    .key
                    .strip_prefix("routes.")
                    .and_then(|rest| rest.strip_prefix(name.as_str()))
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            // A route of the file that one over the API stands in the way of: both are left out.
            let name = named.cloned().or_else(|| {
                http.routes
                    .iter()
                    .map(|route| &route.name)
                    .find(|name| conflict.key == format!("routes.{name}.path"))
                    .cloned()
            });
            let Some(name) = name else {
                // Too many of something: the file's word alone is known to be sound.
                http = declared.clone();
                let over: HashSet<&RouteName> = self.routes.keys().collect();
                http.routes.retain(|route| !over.contains(&route.name));
                left_out.extend(self.routes.keys().map(|name| (name.clone(), conflict.clone())));
                break;
            };
            http.routes.retain(|route| route.name != name);
            left_out.push((name, conflict));
        }
        Merged { http, left_out }
    }

    fn replace(&self, declared: &SnapshotHttp) -> SnapshotHttp {
        let mut http = declared.clone();
        http.routes.retain(|route| !self.routes.contains_key(&route.name));
        http.routes.extend(self.routes.values().cloned());
        http.roles.extend(self.roles.iter().map(|(name, role)| (name.clone(), role.clone())));
        http
    }
}
