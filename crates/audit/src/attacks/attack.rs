//! An attack: what is done, what would prove that it succeeded, and what proves that it could have.

use serde::Serialize;

use super::{
    canary::{Marks, Tenant},
    session::{Outcome, Step},
};
use crate::finding::Object;

/// The kinds of attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "`as_str` says what each does")]
pub enum Kind {
    Read,
    WithoutContext,
    AfterReset,
    ForgedContext,
    TrustedWrite,
    SetRole,
    ErrorOracle,
    Copy,
    PreparedPlan,
    Difference,
    FunctionWrite,
    Update,
    Move,
    Delete,
    Insert,
    Upsert,
    Truncate,
    UniqueOracle,
    ForeignKeyOracle,
    Cascade,
    Statistics,
    Function,
    Shadow,
    SequenceRead,
    SequenceSet,
    LargeObject,
    Activity,
    Signal,
}

impl Kind {
    /// What the attacker does, in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read tenant B's rows",
            Self::WithoutContext => "read without any tenant context",
            Self::AfterReset => "read after RESET ALL",
            Self::ForgedContext => "read after forging the context",
            Self::TrustedWrite => "read after writing what a policy trusts",
            Self::SetRole => "read as another role",
            Self::ErrorOracle => "read B's values in an error's message",
            Self::Copy => "copy the rows out",
            Self::PreparedPlan => "run a plan prepared in B's context",
            Self::Difference => "notice that B has rows",
            Self::Update => "change tenant B's rows",
            Self::Move => "move a row to tenant B",
            Self::Delete => "delete tenant B's rows",
            Self::Insert => "add a row for tenant B",
            Self::Upsert => "overwrite B's row by ON CONFLICT",
            Self::Truncate => "empty the table",
            Self::UniqueOracle => "probe B's values by a unique key",
            Self::ForeignKeyOracle => "probe B's rows by a foreign key",
            Self::Cascade => "reach B's rows by a cascade",
            Self::Statistics => "read B's values in the planner's statistics",
            Self::Function => "call it",
            Self::FunctionWrite => "change tenant B's rows through it",
            Self::Shadow => "shadow what it calls by temporary objects",
            Self::SequenceRead => "read the counter",
            Self::SequenceSet => "set the counter",
            Self::LargeObject => "read B's large object",
            Self::Activity => "read the statements of B's session",
            Self::Signal => "cancel the statements of B's session",
        }
    }
}

/// `invalid_text_representation`: the message of a failed cast quotes the value.
const CAST_REFUSED: &str = "22P02";

/// What proves that an attack succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Success {
    /// The last statement yields a number above zero.
    Positive,
    /// It yields zero.
    Zero,
    /// It changes a row, or is kept from it by a foreign key only after having found it.
    Affects,
    /// It changes more rows than this.
    AffectsOver(u64),
    /// It goes through.
    Completes,
    /// It goes through, or is refused by a key only after row-level security let it pass.
    Accepted,
    /// It adds a row, or is refused by a unique key.
    Inserts,
    /// It is refused by a foreign key, a privilege or a policy.
    Refused,
    /// It is refused by this key.
    Violates(String),
    /// It fails with this message, with which the attacker's own code reports what it saw.
    Says(&'static str),
    /// It fails, and the message holds something of tenant B's.
    BetraysB,
    /// What it copies out holds something of tenant B's.
    CopiesB,
    /// What it copies out holds something of tenant A's.
    CopiesA,
}

impl Success {
    pub(crate) fn is_met(&self, outcome: &Outcome, marks: &Marks) -> bool {
        let number = |value: &Option<String>| value.as_deref().and_then(|value| value.parse::<f64>().ok());
        let code = |wanted: &[&str]| matches!(outcome, Outcome::Failed { code, .. } if wanted.contains(&code.as_str()));
        match (self, outcome) {
            (Self::Positive, Outcome::Rows(value)) => number(value).is_some_and(|number| number > 0.0),
            (Self::Zero, Outcome::Rows(value)) => number(value).is_some_and(|number| number == 0.0),
            (Self::Affects | Self::Accepted | Self::Inserts, Outcome::Affected(rows)) => *rows > 0,
            (Self::Affects, _) => code(&["23503"]),
            (Self::AffectsOver(own), Outcome::Affected(rows)) => rows > own,
            (Self::Completes, outcome) => !matches!(outcome, Outcome::Failed { .. } | Outcome::Unclear(_)),
            (Self::Accepted, _) => code(&["23503", "23505", "23P01"]),
            (Self::Inserts, _) => code(&["23505", "23P01"]),
            (Self::Refused, _) => code(&["23503", "42501"]),
            (Self::Violates(name), Outcome::Failed { code, constraint, .. }) => {
                matches!(code.as_str(), "23505" | "23P01") && constraint.as_ref() == Some(name)
            }
            (Self::Says(word), Outcome::Failed { message, .. }) => message.starts_with(word),
            (Self::BetraysB, Outcome::Failed { code, message, .. }) => {
                code == CAST_REFUSED && marks.is_in(Tenant::B, message.as_bytes())
            }
            (Self::CopiesB, Outcome::Copied(bytes)) => marks.is_in(Tenant::B, bytes),
            (Self::CopiesA, Outcome::Copied(bytes)) => marks.is_in(Tenant::A, bytes),
            _ => false,
        }
    }
}

/// What shows that the attack could succeed at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Control {
    /// The last statement, as a superuser.
    Administrator,
    /// The last statement, in B's own context.
    Victim,
    /// Other steps of the application's.
    Steps(Vec<Step>, Success),
    /// Another statement, as a superuser.
    AdministratorRuns(String, Success),
}

/// An attack.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    pub(crate) kind: Kind,
    pub(crate) object: Object,
    pub(crate) steps: Vec<Step>,
    pub(crate) success: Success,
    /// One of them must hold.
    pub(crate) controls: Vec<Control>,
    /// All of them must hold, or the attacker's context was no context.
    pub(crate) requires: Vec<(Vec<Step>, Success)>,
    /// Why it must not be run in place.
    pub(crate) not_in_place: Option<&'static str>,
    /// Where not even a superuser sees B there is nothing to see: no control, no attack.
    pub(crate) moot_without_control: bool,
}

impl Attack {
    pub(crate) fn new(kind: Kind, object: Object, steps: Vec<Step>, success: Success) -> Self {
        let controls = vec![Control::Administrator];
        Self {
            kind,
            object,
            steps,
            success,
            controls,
            requires: Vec::new(),
            not_in_place: None,
            moot_without_control: false,
        }
    }

    #[must_use]
    pub(crate) fn or_control(mut self, control: Control) -> Self {
        self.controls.push(control);
        self
    }

    #[must_use]
    pub(crate) fn only_control(mut self, control: Control) -> Self {
        self.controls = vec![control];
        self
    }

    #[must_use]
    pub(crate) fn requires(mut self, steps: Vec<Step>, success: Success) -> Self {
        self.requires.push((steps, success));
        self
    }

    #[must_use]
    pub(crate) const fn moot_without_control(mut self) -> Self {
        self.moot_without_control = true;
        self
    }

    #[must_use]
    pub(crate) const fn not_in_place(mut self, reason: &'static str) -> Self {
        self.not_in_place = Some(reason);
        self
    }
}
