use proptest::prelude::*;

use super::*;

const MINIMAL: &str = "[application]\nname = \"helpdesk\"\n";

fn refusal(text: &str) -> String {
    Config::parse("guardian.toml", text).unwrap_err().to_string()
}

#[test]
fn a_minimal_file_runs_on_a_local_cluster() {
    let config = Config::parse("guardian.toml", MINIMAL).unwrap();
    assert!(config.needs_local_cluster());
    assert_eq!(config.shared_place().to_string(), "local/helpdesk/public");
}

#[test]
fn an_unknown_key_is_refused_with_line_and_nearest_key() {
    let text = "[application]\nname = \"helpdesk\"\ntenant_colunm = \"x\"\n";
    let message = refusal(text);
    assert!(message.starts_with("guardian.toml:3: unknown field `tenant_colunm`"), "{message}");
    assert!(message.ends_with("did you mean `tenant_column`?"), "{message}");
}

#[test]
fn an_unknown_table_is_refused() {
    let message = refusal("[aplication]\nname = \"x\"\n");
    assert!(message.contains("did you mean `application`?"), "{message}");
}

#[test]
fn what_types_cannot_say_is_checked_with_its_line() {
    let message = refusal("[application]\nname = \"Help Desk\"\n");
    assert!(message.starts_with("guardian.toml:2: `application.name`"), "{message}");
    let message = refusal("[application]\nname = \"a\"\n\n[application.global]\ncountry = \" \"\n");
    assert!(message.starts_with("guardian.toml:5: `application.global.country`: say why"), "{message}");
    let message = refusal("[application]\nname = \"a\"\ncluster = \"b\"\n");
    assert!(message.contains("there is no [clusters.b]; known: `local`"), "{message}");
    let message = refusal("[application]\nname = \"a\"\n[tiers.x]\nisolation = \"row\"\nweight = 0\n");
    assert!(message.starts_with("guardian.toml:5: `tiers.x.weight`"), "{message}");
}

#[test]
fn key_decisions_read_as_documented() {
    let text = "[application]\nname = \"a\"\n[application.keys]\nagent_email_key = \"composite\"\nmailbox_key = { global = \"mail is routed by it\" }\n";
    let keys = Config::parse("guardian.toml", text).unwrap().application.keys;
    assert_eq!(keys["agent_email_key"], KeyDecision::Composite);
    assert_eq!(keys["mailbox_key"], KeyDecision::Global("mail is routed by it".to_owned()));
}

#[test]
fn the_schema_names_every_section() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    for section in ["control", "clusters", "application", "tiers"] {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_with_a_message(text in "(\\[?[a-z_.]{0,12}\\]?[ =\"'\\n]{0,3}){0,12}") {
        if let Err(error) = Config::parse("guardian.toml", &text) {
            prop_assert!(error.to_string().starts_with("guardian.toml"));
        }
    }

    #[test]
    fn a_valid_file_with_noise_never_panics(noise in ".{0,60}") {
        let _ = Config::parse("guardian.toml", &format!("{MINIMAL}{noise}"));
    }
}

#[test]
fn rings_hold_whom_they_name_first() {
    let ring = |text: &str| format!("{MINIMAL}[migrations]\n{text}");
    let text = ring("rings = [{ name = \"canary\", tenants = [\"acme\"] }, { name = \"small\", tiers = [\"free\"] }]");
    let rollout = Config::parse("guardian.toml", &text).unwrap().migrations;
    assert_eq!(rollout.order(), ["shared", "canary", "small", "rest"]);
    let last = ring("shared = \"last\"\nrings = [{ name = \"tenth\", percent = 10 }]");
    assert_eq!(Config::parse("guardian.toml", &last).unwrap().migrations.order(), ["tenth", "rest", "shared"]);
    for (wrong, problem) in [
        ("rings = [{ name = \"rest\", percent = 1 }]", "`rest` is taken"),
        ("rings = [{ name = \"a\" }]", "names nobody"),
        ("rings = [{ name = \"A b\", percent = 1 }]", "name a ring by"),
        ("rings = [{ name = \"a\", percent = 101 }]", "must be 1 to 100"),
        ("halt_percent = 101", "must be 0 to 100"),
        ("parallel = 0", "must be 1 to 64"),
        ("tool_login_seconds = 2", "must be 3 to 900"),
    ] {
        let message = refusal(&ring(wrong));
        assert!(message.contains(problem), "{message}");
    }
}

fn tenant(number: u64, slug: &str, tier: &str) -> crate::Tenant {
    let id = crate::TenantId::from_uuid(uuid::Uuid::from_u64_pair(1, number));
    let place = Config::parse("guardian.toml", MINIMAL).unwrap().shared_place();
    let cluster = place.cluster.clone();
    crate::Tenant {
        id,
        slug: slug.parse().unwrap(),
        key: String::new(),
        tier: tier.parse().unwrap(),
        state: crate::TenantState::Active,
        placement: crate::Placement::derive(Isolation::Schema, id, "helpdesk", &place, &cluster),
        limits: crate::LimitOverrides::default(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        changed_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_tenant_belongs_to_the_first_ring_that_holds_it() {
    let text = format!(
        "{MINIMAL}[migrations]\nrings = [{{ name = \"canary\", tenants = [\"acme\"] }}, \
         {{ name = \"early\", tiers = [\"business\"], percent = 10 }}, {{ name = \"late\", tenants = [\"acme\"] }}]"
    );
    let rollout = Config::parse("guardian.toml", &text).unwrap().migrations;
    assert_eq!(rollout.ring_of(&tenant(99, "acme", "business")), "canary");
    assert_eq!(rollout.ring_of(&tenant(99, "globex", "business")), "early");
    assert_eq!(rollout.ring_of(&tenant(99, "globex", "free")), "rest");
    let early = (0..1000).filter(|number| rollout.ring_of(&tenant(*number, "globex", "free")) == "early").count();
    assert_eq!(early, 100);
}

const HTTP: &str = "[http]\nenabled = true\n[http.upstreams.app]\nservers = [\"http://127.0.0.1:9000\"]\n";

fn with_http(more: &str) -> String {
    format!("{MINIMAL}{HTTP}{more}")
}

fn with_route(route: &str) -> String {
    with_http(&format!("[[http.routes]]\nname = \"tickets\"\nupstream = \"app\"\n{route}\n"))
}

#[test]
fn a_route_says_what_it_needs() {
    let good = with_route("path = \"/tickets/{id}\"\nmethods = [\"GET\"]\npermission = \"ticket.read\"");
    let route = Config::parse("guardian.toml", &good).unwrap().http.routes.remove(0);
    assert!(route.takes(crate::http::HttpMethod::Get) && !route.takes(crate::http::HttpMethod::Post));
    Config::parse("guardian.toml", &with_route("path = \"/\"\npublic = true")).unwrap();
    for (wrong, problem) in [
        ("path = \"/\"", "either `permission = \"ticket.read\"`, or `public = true`"),
        ("path = \"/\"\npublic = true\npermission = \"ticket.read\"", "either `permission"),
        ("path = \"/\"\npermission = \"Ticket.Read\"", "is no permission"),
        ("path = \"/a//b\"\npublic = true", "`http.routes.tickets.path`: may not have `//`"),
        ("path = \"/{tenant}\"\npublic = true", "`tenant_path = true`"),
        ("path = \"/\"\npublic = true\nmethods = [\"TRACE\"]", "unknown variant `TRACE`"),
        ("path = \"/\"\npublic = true\nhosts = [\"Acme.com\"]", "is no host name"),
        ("path = \"/\"\npublic = true\nrequests_per_minute_max = 0", "must be 1 or more"),
        ("path = \"/\"\npublic = true\npermision = \"x\"", "did you mean `permission`"),
    ] {
        let message = refusal(&with_route(wrong));
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn two_routes_do_not_take_the_same_requests() {
    let second = |route: &str| {
        let first = with_route("path = \"/tickets/{id}\"\nmethods = [\"GET\"]\npermission = \"ticket.read\"");
        format!("{first}[[http.routes]]\nname = \"second\"\nupstream = \"app\"\npublic = true\n{route}\n")
    };
    for good in [
        "path = \"/tickets/{id}\"\nmethods = [\"POST\"]",
        "path = \"/tickets/{id}/close\"",
        "path = \"/tickets/{id}\"\nhosts = [\"a.example\"]",
    ] {
        Config::parse("guardian.toml", &second(good)).unwrap();
    }
    let message = refusal(&second("path = \"/tickets/{other}\""));
    assert!(message.contains("`http.routes.second.path`: the route `tickets` takes the same requests"), "{message}");
}

#[test]
fn the_api_gateway_refuses_what_makes_no_sense() {
    for (wrong, problem) in [
        ("listen = \"0.0.0.0:8080\"", "`http.listen`: API keys would cross the network in clear"),
        ("tenant_header = \"Host\"", "`http.tenant_header`: `Host` means something else"),
        ("tenant_header = \"guardian-tenant\"", "means something else"),
        ("host_suffix = \"10.0.0.1\"", "could be an address"),
        ("trusted_proxies = [\"10.0.0.0/33\"]", "is no address or network"),
        ("headers_max = 0", "`http.headers_max`: must be 1 or more"),
        ("identity = { seconds = 5 }", "`http.identity.seconds`: must be 10 to 3600"),
        ("identity = { audience = \"\" }", "may not be empty"),
        ("upstreams = { app = { servers = [] } }", "name a server"),
        ("upstreams = { app = { servers = [\"127.0.0.1:9000\"] } }", "is no server"),
        ("upstreams = { app = { servers = [\"http://a\"], tiers = [\"free\"] } }", "goes with `tiers` or `tenants`"),
        ("upstreams = { app = { servers = [\"http://a\"], authorities = \"x\" } }", "did you mean `authorities_file`"),
        ("upstreams = { app = { servers = [\"http://a\"], instead_of = \"b\", tiers = [\"free\"] } }", "there is no"),
    ] {
        let message = refusal(&format!("{MINIMAL}[http]\n{wrong}\n"));
        assert!(message.contains(problem), "{wrong}: {message}");
    }
    let both = with_http(
        "[http.upstreams.big]\nservers = [\"http://b\"]\ninstead_of = \"app\"\ntiers = [\"pro\"]\n\
         [http.upstreams.other]\nservers = [\"http://c\"]\ninstead_of = \"app\"\ntiers = [\"pro\"]\n",
    );
    assert!(refusal(&both).contains("`big` serves some of the same tenants"));
}

#[test]
fn a_tenant_has_one_issuer() {
    let issuer =
        |name: &str, more: &str| format!("[issuers.{name}]\nissuer = \"https://{name}\"\naudience = \"a\"\n{more}\n");
    let good = format!("{MINIMAL}{}", issuer("edge", "oidc = true\ntenants = [\"acme\"]"));
    let declared = Config::parse("guardian.toml", &good).unwrap().issuers.remove("edge").unwrap();
    assert_eq!((declared.subject_claim.as_str(), declared.roles_claim), ("sub", None));
    let twice = format!("{good}{}", issuer("other", "oidc = true\ntenants = [\"acme\"]"));
    assert!(refusal(&twice).contains("`acme` is pinned to [issuers.edge] already"));
    for (wrong, problem) in [
        ("", "give one of `jwks_url`, `jwks_file` and `oidc = true`"),
        ("oidc = true\njwks_file = \"x\"", "finds the keys by itself"),
        ("oidc = true\ntenants = []", "names nobody"),
        ("oidc = true\nroles_claim = \"\"", "may not be empty"),
    ] {
        let message = refusal(&format!("{MINIMAL}{}", issuer("edge", wrong)));
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn ten_thousand_routes_are_checked_as_one() {
    use std::fmt::Write as _;
    let mut text = with_http("");
    for number in 0..10_000 {
        let _ = write!(
            text,
            "[[http.routes]]\nname = \"r{number}\"\nupstream = \"app\"\npath = \"/v{}/things{number}/{{id}}\"\npermission = \"thing.read\"\n",
            number % 7
        );
    }
    assert_eq!(Config::parse("guardian.toml", &text).unwrap().http.routes.len(), 10_000);
}
