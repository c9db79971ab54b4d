//! GRD-PG-506

use crate::{
    facts::Source,
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-506",
    name: "tls_off",
    severity: Severity::Medium,
    protects: Protects::Secrets,
    title: "The server speaks without TLS to other machines",
    docs: "## What

`ssl` is off, and `listen_addresses` names more than this machine.

## Why

Rows, bind parameters and (with the method `password`) passwords of all tenants cross the network in clear, and who sits in between can take a session over.

## Exploit

```sh
tcpdump -A port 5432
```

## Remedy

Give the server a certificate and set `ssl = on`; then write `hostssl` in `pg_hba.conf` and `sslmode=verify-full` at the clients.

## Near miss

A server that listens on loopback addresses or on sockets only stays silent: a pooler or gateway beside it may speak TLS.
",
    needs: &[Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let setting = |name| audit.facts.setting(name).map(|setting| setting.value.as_str());
    let Some(addresses) = setting("listen_addresses").filter(|_| setting("ssl") == Some("off")) else {
        return Vec::new();
    };
    let is_near =
        |address: &str| address.is_empty() || address == "localhost" || address.starts_with("127.") || address == "::1";
    if addresses.split(',').map(str::trim).all(is_near) {
        return Vec::new();
    }
    let evidence = format!("ssl is off, and listen_addresses is {addresses}");
    vec![Hit::on(Object::named(ObjectKind::Setting, "ssl"), evidence)]
}
