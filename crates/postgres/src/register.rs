//! The tenant context in SQL: which mechanism keeps it, what reads it, and the functions that set it (DESIGN §4).
//!
//! Every expression an application's statement evaluates comes from here, for policies and for column defaults alike.

use guardian_model::{KeyType, config::PolicyForm};
use serde::{Deserialize, Serialize};

use crate::{
    facts::{Facts, ServerFacts},
    quote::ident,
};

/// The parameter that serves as the register.
pub const REGISTER: &str = "backtrace_functions";
/// The parameter that holds the capability where the register cannot be granted.
pub const CAPABILITY_SETTING: &str = "guardian.capability";

/// How a session's tenant context is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// `guardian.enter` runs as a role that holds `SET` on the register (15+).
    GrantedRegister,
    /// `guardian.enter` runs as a superuser, who may set the register on any version.
    SuperuserFunction,
    /// The session keeps its capability, and policies look it up: where nobody may set or grant the register.
    CapabilityLookup,
}

impl Mechanism {
    /// The words of reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GrantedRegister => "register",
            Self::SuperuserFunction => "register (superuser function)",
            Self::CapabilityLookup => "capability lookup",
        }
    }

    /// Picks the mechanism for a server, and says why.
    pub(crate) fn choose(facts: &Facts, enter_role: &str) -> (Self, String) {
        let ServerFacts { version, superuser, may_grant_register, register_grantees, admin, .. } = &facts.server;
        let version_major = version / 10_000;
        let is_granted = register_grantees.iter().any(|grantee| grantee.as_deref() == Some(enter_role));
        if *version >= 150_000 && (*superuser || *may_grant_register || is_granted) {
            let reason = format!(
                "PostgreSQL {version_major} can grant the right to set `{REGISTER}`, and {}",
                if *superuser {
                    format!("`{admin}` is a superuser")
                } else if *may_grant_register {
                    format!("`{admin}` may pass it on")
                } else {
                    format!("`{enter_role}` holds it already")
                }
            );
            return (Self::GrantedRegister, reason);
        }
        if *superuser {
            let reason = format!(
                "PostgreSQL {version_major} cannot grant the right to set `{REGISTER}` (15 can); a function owned by the \
                 superuser `{admin}` sets it"
            );
            return (Self::SuperuserFunction, reason);
        }
        let reason = format!(
            "`{admin}` is no superuser and may not grant the right to set `{REGISTER}`; a point lookup costs 1.5 to 2 times as \
             much. On 15 or newer a superuser can mend that: GRANT SET ON PARAMETER {REGISTER} TO {} WITH GRANT OPTION",
            ident(admin)
        );
        (Self::CapabilityLookup, reason)
    }

    /// The tenant's key as the column's type. An error when there is no context.
    pub(crate) fn value(self, key_type: KeyType) -> String {
        let register = format!("current_setting('{REGISTER}')");
        match (self, key_type) {
            (Self::CapabilityLookup, _) => "guardian.tenant_key()".to_owned(),
            (_, KeyType::Uuid) => format!("{register}::uuid"),
            (_, KeyType::Bigint) => format!("{register}::bigint"),
            // The length is negative for an empty register, and `substr` raises: a cast to text would not.
            (_, KeyType::Text) => decode_text(&format!("substr({register}, 2, length({register}) - 1)")),
        }
    }

    /// The condition of the policy.
    pub(crate) fn predicate(self, column: &str, key_type: KeyType, form: PolicyForm) -> String {
        let value = self.value(key_type);
        let column = ident(column);
        match form {
            PolicyForm::Direct => format!("{column} = {value}"),
            PolicyForm::Wrapped => format!("{column} = (SELECT {value})"),
        }
    }
}

/// The reverse of `TenantKey::to_register` for text, without the leading digit.
fn decode_text(text: &str) -> String {
    format!("translate({text}, ', ', '-.')")
}

/// One of Guardian's functions, complete enough to compare with what is installed.
pub(crate) struct ContextFunction {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) parameters: &'static str,
    pub(crate) returns: &'static str,
    pub(crate) volatility: char,
    /// As `pg_proc.proconfig` has them.
    pub(crate) settings: &'static [&'static str],
    pub(crate) body: String,
}

/// The setting each of them carries: without the explicit `pg_temp` at the end, it would be searched first.
const SEARCH_PATH: &str = "search_path=pg_catalog, pg_temp";

impl ContextFunction {
    /// `CREATE OR REPLACE FUNCTION`.
    pub(crate) fn create(&self) -> String {
        let volatility = if self.volatility == 's' { "STABLE PARALLEL SAFE" } else { "VOLATILE PARALLEL UNSAFE" };
        let mut settings = String::new();
        for (name, value) in self.settings.iter().filter_map(|setting| setting.split_once('=')) {
            settings.extend(["SET ", name, " = ", value, " "]);
        }
        format!(
            "CREATE OR REPLACE FUNCTION guardian.{}({}) RETURNS {} LANGUAGE plpgsql {volatility} SECURITY DEFINER \
             {settings}AS $guardian${}$guardian$",
            self.name, self.parameters, self.returns, self.body
        )
    }
}

/// The functions of a mechanism.
pub(crate) fn functions(mechanism: Mechanism, key_type: KeyType) -> Vec<ContextFunction> {
    let lookup = mechanism == Mechanism::CapabilityLookup;
    let mut functions = vec![
        ContextFunction {
            name: "enter",
            arguments: "bytea",
            parameters: "capability pg_catalog.bytea",
            returns: "pg_catalog.text",
            volatility: 'v',
            // A table small enough to be read whole would have the capability's hash computed for each row.
            settings: &[SEARCH_PATH, "enable_seqscan=off"],
            body: if lookup { enter_by_lookup() } else { enter_by_register() },
        },
        ContextFunction {
            name: "redeem",
            arguments: "bytea",
            parameters: "ticket pg_catalog.bytea",
            returns: "pg_catalog.text",
            volatility: 'v',
            settings: &[SEARCH_PATH],
            body: if lookup { redeem_by_lookup() } else { redeem_by_register() },
        },
    ];
    if lookup {
        functions.push(ContextFunction {
            name: "tenant_key",
            arguments: "",
            parameters: "",
            returns: match key_type {
                KeyType::Uuid => "pg_catalog.uuid",
                KeyType::Bigint => "pg_catalog.int8",
                KeyType::Text => "pg_catalog.text",
            },
            volatility: 's',
            settings: &[SEARCH_PATH],
            body: tenant_key(key_type),
        });
    }
    functions
}

// The bodies clear a context that they do not replace, and never raise: a raise would take the clearing back, and leave the
// previous tenant's context to whoever comes next on this connection.

// Each expression is planned anew after every reset of a connection, so that `enter` has as few as it can: a loop over the one
// row saves the one that would ask whether there was a row.

fn enter_by_register() -> String {
    format!(
        "
DECLARE
  found_register pg_catalog.text;
BEGIN
  FOR found_register IN SELECT pg_catalog.set_config('{REGISTER}', c.register, false) FROM guardian.capability AS c
    WHERE c.hash OPERATOR(pg_catalog.=) pg_catalog.sha256(enter.capability)
  LOOP
    RETURN found_register;
  END LOOP;
  PERFORM pg_catalog.set_config('{REGISTER}', '', false);
  RETURN NULL;
END
"
    )
}

fn redeem_by_register() -> String {
    format!(
        "
DECLARE
  found_register pg_catalog.text;
  found_expiry pg_catalog.timestamptz;
BEGIN
  PERFORM pg_catalog.set_config('{REGISTER}', '', false);
  DELETE FROM guardian.ticket AS t WHERE t.hash OPERATOR(pg_catalog.=) pg_catalog.sha256(redeem.ticket)
  RETURNING t.register, t.expires_at INTO found_register, found_expiry;
  IF found_register IS NULL OR found_expiry OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() THEN
    RETURN NULL;
  END IF;
  PERFORM pg_catalog.set_config('{REGISTER}', found_register, false);
  RETURN found_register;
END
"
    )
}

fn enter_by_lookup() -> String {
    format!(
        "
DECLARE
  found_register pg_catalog.text;
BEGIN
  FOR found_register IN SELECT c.register FROM guardian.capability AS c
    WHERE c.hash OPERATOR(pg_catalog.=) pg_catalog.sha256(enter.capability)
  LOOP
    PERFORM pg_catalog.set_config('{CAPABILITY_SETTING}', pg_catalog.encode(enter.capability, 'hex'), false);
    RETURN found_register;
  END LOOP;
  PERFORM pg_catalog.set_config('{CAPABILITY_SETTING}', '', false);
  RETURN NULL;
END
"
    )
}

/// A ticket is spent by its first use, so the session goes on under a capability of its own, for half a day at most.
fn redeem_by_lookup() -> String {
    format!(
        "
DECLARE
  found_register pg_catalog.text;
  found_expiry pg_catalog.timestamptz;
  session_capability pg_catalog.bytea;
BEGIN
  PERFORM pg_catalog.set_config('{CAPABILITY_SETTING}', '', false);
  DELETE FROM guardian.ticket AS t WHERE t.hash OPERATOR(pg_catalog.=) pg_catalog.sha256(redeem.ticket)
  RETURNING t.register, t.expires_at INTO found_register, found_expiry;
  IF found_register IS NULL OR found_expiry OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() THEN
    RETURN NULL;
  END IF;
  session_capability := pg_catalog.uuid_send(pg_catalog.gen_random_uuid())
    OPERATOR(pg_catalog.||) pg_catalog.uuid_send(pg_catalog.gen_random_uuid());
  DELETE FROM guardian.session AS s WHERE s.expires_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp();
  INSERT INTO guardian.session (hash, register, expires_at) VALUES (pg_catalog.sha256(session_capability), found_register,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) pg_catalog.make_interval(hours => 12));
  PERFORM pg_catalog.set_config('{CAPABILITY_SETTING}', pg_catalog.encode(session_capability, 'hex'), false);
  RETURN found_register;
END
"
    )
}

fn tenant_key(key_type: KeyType) -> String {
    let value = match key_type {
        KeyType::Uuid => "found_register::pg_catalog.uuid".to_owned(),
        KeyType::Bigint => "found_register::pg_catalog.int8".to_owned(),
        KeyType::Text => format!("pg_catalog.{}", decode_text("pg_catalog.substr(found_register, 2)")),
    };
    format!(
        "
DECLARE
  presented pg_catalog.bytea := pg_catalog.sha256(pg_catalog.decode(pg_catalog.current_setting('{CAPABILITY_SETTING}', true), 'hex'));
  found_register pg_catalog.text;
BEGIN
  SELECT c.register INTO found_register FROM guardian.capability AS c WHERE c.hash OPERATOR(pg_catalog.=) presented;
  IF found_register IS NULL THEN
    SELECT s.register INTO found_register FROM guardian.session AS s
    WHERE s.hash OPERATOR(pg_catalog.=) presented AND s.expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp();
  END IF;
  IF found_register IS NULL THEN
    RAISE EXCEPTION 'no tenant context' USING ERRCODE = 'insufficient_privilege',
      HINT = 'Connect through Guardian, which enters the tenant for you.';
  END IF;
  RETURN {value};
END
"
    )
}

/// What is left of an expression when the server's way of writing it back is taken away: white space, parentheses, quotes,
/// aliases, and casts to the types of keys. No two expressions that this crate writes become the same.
pub(crate) fn normal_form(expression: &str) -> String {
    let mut text = expression.to_owned();
    for alias in [" AS current_setting", " AS translate", " AS tenant_key", " AS uuid", " AS int8"] {
        text = text.replace(alias, "");
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '(' | ')' | '"')).collect();
    ["::uuid", "::bigint", "::text", "::charactervarying", "pg_catalog."]
        .iter()
        .fold(text, |text, noise| text.replace(noise, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_writes_back_is_recognised() {
        let cases = [
            (KeyType::Uuid, PolicyForm::Direct, "(tenant_id = (current_setting('backtrace_functions'::text))::uuid)"),
            (
                KeyType::Uuid,
                PolicyForm::Wrapped,
                "(tenant_id = ( SELECT (current_setting('backtrace_functions'::text))::uuid AS current_setting))",
            ),
            (
                KeyType::Text,
                PolicyForm::Direct,
                "((tenant_id)::text = translate(substr(current_setting('backtrace_functions'::text), 2, \
                 (length(current_setting('backtrace_functions'::text)) - 1)), ', '::text, '-.'::text))",
            ),
        ];
        for (key_type, form, written) in cases {
            let wanted = Mechanism::GrantedRegister.predicate("tenant_id", key_type, form);
            assert_eq!(normal_form(&wanted), normal_form(written));
        }
    }

    #[test]
    fn an_opened_policy_is_not_mistaken_for_ours() {
        let wanted = normal_form(&Mechanism::GrantedRegister.predicate("tenant_id", KeyType::Uuid, PolicyForm::Direct));
        for written in [
            "((tenant_id = (current_setting('backtrace_functions'::text))::uuid) OR true)",
            "(tenant_id = (current_setting('app.tenant_id'::text))::uuid)",
            "(other_id = (current_setting('backtrace_functions'::text))::uuid)",
            "true",
        ] {
            assert_ne!(normal_form(written), wanted);
        }
    }
}
