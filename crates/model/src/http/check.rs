//! What types cannot say of routes, upstreams and roles, wherever they were declared.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::{HttpMethod, HttpRoute, ROLES_MAX, ROUTES_MAX, SnapshotHttp, Upstream};
use crate::{RouteName, UpstreamName, tenant_access::PERMISSIONS_MAX};

const PATH_LEN_MAX: usize = 512;
/// The parameter that names the tenant.
const TENANT: &str = "tenant";
const CONNECTIONS_MAX: u32 = 100_000;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Conflict {
    /// The dotted key under `http`, such as `routes.tickets.path`.
    pub key: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`: {}", self.key, self.problem)
    }
}

fn refuse<T>(key: String, problem: impl Into<String>) -> Result<T, Conflict> {
    Err(Conflict { key, problem: problem.into() })
}

/// Refuses a path that a request could not have, or that matches what nobody means.
pub fn check_path(path: &str, may_name_tenant: bool) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else { return Err("must begin with `/`".to_owned()) };
    if path.len() > PATH_LEN_MAX {
        return Err(format!("may have {PATH_LEN_MAX} characters at most"));
    }
    let mut names = HashSet::new();
    let count = rest.split('/').count();
    for (index, segment) in rest.split('/').enumerate() {
        let is_last = index + 1 == count;
        match segment.strip_prefix('{') {
            Some(parameter) => {
                let name = parameter.strip_suffix('}').ok_or("a `{` has no `}` at the end of its part")?;
                let (name, is_rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
                if is_rest && !is_last {
                    return Err("`{*…}` takes the rest of a path, and so stands last".to_owned());
                }
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
                    return Err("name a parameter with a-z, 0-9 and _: `{id}`".to_owned());
                }
                if name == TENANT && (is_rest || !may_name_tenant) {
                    return Err("`{tenant}` names the tenant: say `tenant_path = true` in [http]".to_owned());
                }
                if !names.insert(name) {
                    return Err(format!("has `{{{name}}}` twice"));
                }
            }
            None if segment.is_empty() && is_last => {}
            None if segment.is_empty() => return Err("may not have `//`".to_owned()),
            None if matches!(segment, "." | "..") => return Err("may not have `.` or `..` as a part".to_owned()),
            None if !segment.bytes().all(is_path_byte) => {
                return Err("a part may have a-z, A-Z, 0-9 and -._~!$&'()*+,;=:@, or be `{name}` as a whole".to_owned());
            }
            None => {}
        }
    }
    Ok(())
}

/// What may stand in a path as itself. An escape (`%41`) would make two spellings of one path.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

impl SnapshotHttp {
    /// What types cannot say of all of it.
    pub fn check(&self) -> Result<(), Conflict> {
        if self.routes.len() > ROUTES_MAX {
            return refuse("routes".to_owned(), format!("there may be {ROUTES_MAX} routes at most"));
        }
        if self.roles.len() > ROLES_MAX {
            return refuse("roles".to_owned(), format!("there may be {ROLES_MAX} roles at most"));
        }
        if let Some((name, _)) = self.roles.iter().find(|(_, role)| role.permissions.len() > PERMISSIONS_MAX) {
            return refuse(format!("roles.{name}.permissions"), format!("there may be {PERMISSIONS_MAX} at most"));
        }
        for (name, upstream) in &self.upstreams {
            self.check_upstream(name, upstream)?;
        }
        let mut names = HashSet::new();
        let mut taken: HashMap<(String, String, HttpMethod), &RouteName> = HashMap::new();
        for route in &self.routes {
            if !names.insert(&route.name) {
                return refuse(format!("routes.{}.name", route.name), "another route has this name");
            }
            self.check_route(route)?;
            for key in places(route) {
                if let Some(other) = taken.insert(key, &route.name) {
                    let problem = format!("the route `{other}` takes the same requests: change a path, hosts or methods");
                    return refuse(format!("routes.{}.path", route.name), problem);
                }
            }
        }
        Ok(())
    }

    /// What types cannot say of one route, but for the others.
    pub fn check_route(&self, route: &HttpRoute) -> Result<(), Conflict> {
        let key = |name: &str| format!("routes.{}.{name}", route.name);
        check_path(&route.path, self.tenant_path).or_else(|problem| refuse(key("path"), problem))?;
        match self.upstreams.get(&route.upstream) {
            None => {
                let problem = format!("there is no [http.upstreams.{}]", route.upstream);
                return refuse(key("upstream"), problem);
            }
            Some(upstream) if upstream.instead_of.is_some() => {
                let problem =
                    format!("`{}` serves some tenants only; name the one in whose place it serves", route.upstream);
                return refuse(key("upstream"), problem);
            }
            Some(_) => {}
        }
        if route.public == route.permission.is_some() {
            let problem = "say what it needs: either `permission = \"ticket.read\"`, or `public = true`";
            return refuse(key("permission"), problem);
        }
        for (name, value) in [
            ("requests_per_minute_max", route.requests_per_minute_max),
            ("response_seconds_max", route.response_seconds_max),
        ] {
            if value == Some(0) {
                return refuse(key(name), "must be 1 or more");
            }
        }
        Ok(())
    }

    fn check_upstream(&self, name: &UpstreamName, upstream: &Upstream) -> Result<(), Conflict> {
        let key = |part: &str| format!("upstreams.{name}.{part}");
        if upstream.servers.is_empty() {
            return refuse(key("servers"), "name a server: `http://127.0.0.1:9000`");
        }
        for server in &upstream.servers {
            check_server(server).or_else(|problem| refuse(key("servers"), problem))?;
        }
        let (is_for_some, is_dedicated) =
            (!upstream.tiers.is_empty() || !upstream.tenants.is_empty(), upstream.instead_of.is_some());
        if is_for_some != is_dedicated {
            return refuse(key("instead_of"), "goes with `tiers` or `tenants`: whom it serves, and in whose place");
        }
        if let Some(other) = &upstream.instead_of {
            match self.upstreams.get(other) {
                None => return refuse(key("instead_of"), format!("there is no [http.upstreams.{other}]")),
                Some(other) if other.instead_of.is_some() => {
                    return refuse(key("instead_of"), "must name an upstream that serves everybody");
                }
                Some(_) => {}
            }
            for (rival_name, rival) in &self.upstreams {
                let overlaps = !rival.tiers.is_disjoint(&upstream.tiers) || !rival.tenants.is_disjoint(&upstream.tenants);
                if rival_name < name && rival.instead_of.as_ref() == Some(other) && overlaps {
                    return refuse(key("instead_of"), format!("`{rival_name}` serves some of the same tenants"));
                }
            }
        }
        if !(1..=CONNECTIONS_MAX).contains(&upstream.connections_max) {
            return refuse(key("connections_max"), format!("must be 1 to {CONNECTIONS_MAX}"));
        }
        for (part, value) in [
            ("connect_ms_max", upstream.connect_ms_max),
            ("response_seconds_max", upstream.response_seconds_max),
            ("idle_seconds_max", upstream.idle_seconds_max),
        ] {
            if value == 0 {
                return refuse(key(part), "must be 1 or more");
            }
        }
        if let Some(health) = &upstream.health {
            if !health.path.starts_with('/') || health.path.bytes().any(|b| !b.is_ascii_graphic()) {
                return refuse(key("health.path"), "must be a path, such as `/healthz`");
            }
            if health.interval_seconds == 0 || health.timeout_seconds == 0 || health.fails == 0 || health.passes == 0 {
                return refuse(key("health"), "its numbers must be 1 or more");
            }
        }
        Ok(())
    }
}

/// The places in which a route is found. Two routes in one place take the same requests.
fn places(route: &HttpRoute) -> impl Iterator<Item = (String, String, HttpMethod)> + '_ {
    let shape = route.shape();
    let hosts: Vec<&str> =
        if route.hosts.is_empty() { vec![""] } else { route.hosts.iter().map(crate::HostName::as_str).collect() };
    let methods = HttpMethod::ALL.into_iter().filter(|method| route.takes(*method));
    methods.flat_map(move |method| {
        let shape = shape.clone();
        hosts.clone().into_iter().map(move |host| (host.to_owned(), shape.clone(), method))
    })
}

fn check_server(server: &str) -> Result<(), String> {
    let wrong = || Err(format!("`{server}` is no server; write `http://127.0.0.1:9000` or `https://app.internal`"));
    let Some(authority) = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://")) else { return wrong() };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) if host.parse::<std::net::Ipv6Addr>().is_ok() && (rest.is_empty() || rest.starts_with(':')) => {
            ("v6", rest.strip_prefix(':'))
        }
        Some(_) => return wrong(),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port_is_sound = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if host.parse::<crate::HostName>().is_err() || !port_is_sound { wrong() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_spelled_in_one_way() {
        for good in ["/", "/tickets", "/tickets/", "/tickets/{id}", "/files/{*rest}", "/a.b/~c", "/{x}/{y_2}", "/@me:x"] {
            assert_eq!(check_path(good, false), Ok(()), "{good}");
        }
        for bad in [
            "",
            "tickets",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/a%2fb",
            "/ä",
            "/a b",
            "/a?b",
            "/a\\b",
            "/{",
            "/{}",
            "/{*}",
            "/{*a}/b",
            "/{a}/{a}",
            "/x{a}",
            "/{a}x",
            "/{A}",
            "/{tenant}/a",
        ] {
            assert!(check_path(bad, false).is_err(), "{bad}");
        }
        assert_eq!(check_path("/api/{tenant}/a", true), Ok(()));
        assert!(check_path("/api/{*tenant}", true).is_err());
    }

    #[test]
    fn servers_are_origins() {
        for good in ["http://127.0.0.1:9000", "https://app.internal", "http://[::1]:9000", "http://app/", "http://[::1]"] {
            assert_eq!(check_server(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "app",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a:0",
            "http://a:x",
            "http://u@a",
            "http://[x]:1",
            "http://[::1]9",
            "HTTP://a",
        ] {
            assert!(check_server(bad).is_err(), "{bad}");
        }
    }
}
