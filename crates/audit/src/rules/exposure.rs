//! Which policies decide on a tenant table, for each role that the application's session can be and each command.
//!
//! Permissive policies are joined by OR and restrictive ones by AND, so no policy can be judged alone.

use std::collections::BTreeSet;

use super::{rights::privileges_of, settings};
use crate::{
    Oid,
    facts::{Catalog, Command, Facts, Policy, PredicateKind, Privilege, Relation, Rows, Source, Truth},
    reach::Path,
    rule::Audit,
};

/// The facts that [`exposures`] needs.
pub(super) const NEEDS: &[Source] =
    &[Source::Columns, Source::Policies, Source::Truths, Source::Dependencies, Source::Settings];

/// What policies are asked for: a command, and whether they judge rows that are there or new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) command: Command,
    pub(super) kind: PredicateKind,
    privilege: Privilege,
    /// `rows for SELECT`, `new rows for INSERT`
    pub(super) words: &'static str,
}

const QUESTIONS: [Question; 5] = [
    ask(Command::Select, PredicateKind::Using, Privilege::Select, "SELECT"),
    ask(Command::Update, PredicateKind::Using, Privilege::Update, "UPDATE"),
    ask(Command::Delete, PredicateKind::Using, Privilege::Delete, "DELETE"),
    ask(Command::Insert, PredicateKind::Check, Privilege::Insert, "new rows of INSERT"),
    ask(Command::Update, PredicateKind::Check, Privilege::Update, "new rows of UPDATE"),
];

const fn ask(command: Command, kind: PredicateKind, privilege: Privilege, words: &'static str) -> Question {
    Question { command, kind, privilege, words }
}

/// The policies that decide one question for one session, when no restrictive one among them holds other tenants' rows back in
/// every context that was tried.
#[derive(Debug)]
pub(super) struct Exposure<'f> {
    pub(super) table: &'f Relation,
    pub(super) question: Question,
    pub(super) path: Path,
    pub(super) permissive: Vec<Decider<'f>>,
    pub(super) restrictive: Vec<Decider<'f>>,
}

/// A policy with the predicate that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decider<'f> {
    pub(super) policy: &'f Policy,
    /// The predicate is the policy's WITH CHECK; USING checks new rows where there is none.
    pub(super) by_check: bool,
    /// `None`: undecided.
    pub(super) truth: Option<&'f Truth>,
    /// The predicate depends on the tenant column.
    pub(super) on_tenant: bool,
}

impl Decider<'_> {
    /// `USING` or `WITH CHECK`
    pub(super) fn clause(&self) -> &'static str {
        if self.by_check { "WITH CHECK" } else { "USING" }
    }

    /// It may hold rows of other tenants back while a tenant is set: it was shown to, or nobody knows.
    fn may_hold_back_within(&self) -> bool {
        match self.truth {
            Some(truth) => truth.other_tenant == Rows::None,
            None => self.on_tenant,
        }
    }
}

impl Exposure<'_> {
    /// No restrictive policy holds other tenants' rows back while a tenant is set.
    pub(super) fn unheld_within(&self) -> bool {
        !self.restrictive.iter().any(Decider::may_hold_back_within)
    }

    /// Restrictive policies on the tenant that let some rows of others through: they, and not a permissive policy, are the flaw.
    pub(super) fn partly_held(&self) -> bool {
        self.restrictive
            .iter()
            .any(|decider| decider.on_tenant && decider.truth.is_some_and(|truth| truth.other_tenant != Rows::All))
    }

    /// A restrictive policy's USING holds rows back, but its WITH CHECK lets new ones through.
    pub(super) fn slipped_by_check(&self, facts: &Facts) -> bool {
        let using = |decider: &Decider<'_>| facts.truth(decider.policy.oid, PredicateKind::Using);
        self.restrictive
            .iter()
            .filter(|decider| decider.by_check)
            .any(|decider| using(decider).is_some_and(|truth| truth.undecided.is_none() && truth.other_tenant == Rows::None))
    }

    /// Some permissive policy may let rows of others through, in some context.
    pub(super) fn lets_through(&self) -> bool {
        self.permissive.iter().any(|decider| decider.truth.is_some_and(|truth| !truth.holds_back()))
    }
}

/// A policy that decides somewhere, with everything that it decides.
#[derive(Debug)]
pub(super) struct Culprit<'f> {
    pub(super) table: &'f Relation,
    pub(super) decider: Decider<'f>,
    pub(super) path: Path,
    /// `SELECT, UPDATE, new rows of INSERT`
    pub(super) decides: String,
}

/// The policies that a rule picks, each once for USING and once for WITH CHECK, with all the questions it was picked for.
pub(super) fn culprits<'f>(audit: &Audit<'f>, pick: impl Fn(&Exposure<'f>, &Decider<'f>) -> bool) -> Vec<Culprit<'f>> {
    let mut found: Vec<Culprit<'f>> = Vec::new();
    for exposure in exposures(audit) {
        for decider in exposure.permissive.iter().chain(&exposure.restrictive).filter(|decider| pick(&exposure, decider)) {
            let words = exposure.question.words;
            let same = |one: &&mut Culprit<'f>| {
                one.decider.policy.oid == decider.policy.oid && one.decider.by_check == decider.by_check
            };
            match found.iter_mut().find(same) {
                Some(one) if one.decides.split(", ").any(|word| word == words) => {}
                Some(one) => one.decides = format!("{}, {words}", one.decides),
                None => found.push(Culprit {
                    table: exposure.table,
                    decider: *decider,
                    path: exposure.path.clone(),
                    decides: words.to_owned(),
                }),
            }
        }
    }
    found
}

/// Every question whose answer depends on more than policies that hold back. Tables without row-level security, and roles that
/// policies do not apply to, are other rules'.
pub(super) fn exposures<'f>(audit: &Audit<'f>) -> Vec<Exposure<'f>> {
    let facts = audit.facts;
    let sessions: Vec<(Oid, &Path, BTreeSet<Oid>)> =
        audit.reach.sessions_as().map(|(role, path)| (role, path, privileges_of(facts, role))).collect();
    let mut found = Vec::new();
    for table in facts.relations.iter().filter(|table| table.kind.is_table() && table.rls) {
        if !audit.tenancy.is_tenants(table.oid) || !audit.reach.schema(&table.schema) {
            continue;
        }
        for (role, path, held) in &sessions {
            if !is_bound(facts, *role, held, table) {
                continue;
            }
            let asked = QUESTIONS.into_iter().filter(|question| may(facts, held, table, question.privilege));
            found.extend(asked.filter_map(|question| {
                let exposure = expose(audit, table, question, path, held);
                let shielded = exposure.restrictive.iter().any(|decider| match decider.truth {
                    Some(truth) => shields(audit, truth),
                    None => decider.on_tenant,
                });
                (!shielded).then_some(exposure)
            }));
        }
    }
    found
}

/// Whether policies apply to a role.
pub(super) fn is_bound(facts: &Facts, role: Oid, held: &BTreeSet<Oid>, table: &Relation) -> bool {
    let free = facts.role(role).is_none_or(|role| role.superuser || role.bypasses_rls);
    !free && (table.rls_forced || !held.contains(&table.owner))
}

/// Whether a predicate holds other tenants' rows back whatever the session does: flags that it cannot set do not count.
pub(super) fn shields(audit: &Audit<'_>, truth: &Truth) -> bool {
    let out_of_reach = truth.opened_by.iter().all(|flag| settings::who_may_set(audit, &flag.setting).is_none());
    truth.undecided.is_none() && truth.other_tenant == Rows::None && truth.without_context == Rows::None && out_of_reach
}

fn expose<'f>(
    audit: &Audit<'f>,
    table: &'f Relation,
    question: Question,
    path: &Path,
    held: &BTreeSet<Oid>,
) -> Exposure<'f> {
    let facts = audit.facts;
    let applies = |policy: &&Policy| {
        (policy.command == Command::All || policy.command == question.command)
            && policy.roles.iter().any(|role| held.contains(role))
    };
    let decider = |policy: &'f Policy| {
        let by_check = question.kind == PredicateKind::Check && policy.check.is_some();
        let kind = if by_check { PredicateKind::Check } else { PredicateKind::Using };
        let truth = facts.truth(policy.oid, kind).filter(|truth| truth.undecided.is_none());
        Decider { policy, by_check, truth, on_tenant: on_tenant(audit, policy) }
    };
    let (permissive, restrictive): (Vec<_>, Vec<_>) =
        facts.policies_of(table.oid).iter().filter(applies).map(decider).partition(|decider| decider.policy.permissive);
    let name = crate::finding::readable_in(&table.schema, &table.name);
    let path = path.then(format!("{} on {name}", question.privilege.as_str()));
    Exposure { table, question, path, permissive, restrictive }
}

/// Whether a policy depends on a column that says whose a row is.
pub(super) fn on_tenant(audit: &Audit<'_>, policy: &Policy) -> bool {
    let keys = audit.tenancy.keys(policy.table);
    let is_key = |column: i32| keys.iter().any(|key| i32::from(*key) == column);
    let mut references = audit.facts.references_of(Catalog::Policy, policy.oid).iter();
    references.any(|one| one.referenced == policy.table && is_key(one.column))
}

/// Whether a role with these privileges has this one on the table, or on a column of it.
pub(super) fn may(facts: &Facts, held: &BTreeSet<Oid>, table: &Relation, privilege: Privilege) -> bool {
    let predefined = if privilege == Privilege::Select { "pg_read_all_data" } else { "pg_write_all_data" };
    let columns = facts.columns_of(table.oid).iter().flat_map(|column| &column.acl);
    held.contains(&table.owner)
        || facts.role_named(predefined).is_some_and(|role| held.contains(&role.oid))
        || table.acl.iter().chain(columns).any(|grant| held.contains(&grant.to) && grant.privileges.contains(&privilege))
}
