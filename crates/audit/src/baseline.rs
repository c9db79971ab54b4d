//! A baseline: the findings that were there when a team began, so that only new and worse ones count.
//!
//! It gives no reasons and never expires; an [exception](crate::exceptions) does both.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Report, Severity};

/// The format of the file; another number is refused.
const FORMAT: u32 = 1;

/// Known findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// 1
    pub format: u32,
    /// By rule and object.
    pub findings: Vec<Known>,
}

/// A finding as the baseline keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// The rule's id.
    pub rule: String,
    /// The object's identity; only for people.
    pub object: String,
    /// As bad as it was.
    pub severity: Severity,
    /// By which it is known again.
    pub fingerprint: String,
}

/// The text is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Another format.
    #[error("the baseline has format {0}, this Guardian reads {FORMAT}; write it anew with --write-baseline")]
    Format(u32),
    /// Not what was written.
    #[error("this is no baseline that `guardian audit --write-baseline` wrote: {0}")]
    Unreadable(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Baseline {
    /// What a report finds, but for what is wrong with the audit itself: that is to be put right, not to be known.
    pub fn of(report: &Report) -> Self {
        let counted = report.findings.iter().filter(|finding| !is_own(finding.rule));
        let mut findings: Vec<Known> = counted
            .map(|finding| Known {
                rule: finding.rule.to_owned(),
                object: finding.object.identity.clone(),
                severity: finding.severity,
                fingerprint: finding.fingerprint.clone(),
            })
            .collect();
        findings.sort();
        Self { format: FORMAT, findings }
    }

    /// Reads what [`Baseline::to_text`] wrote.
    pub fn of_text(text: &str) -> Result<Self, BaselineError> {
        let Header { format } = serde_json::from_str(text)?;
        if format == FORMAT { Ok(serde_json::from_str(text)?) } else { Err(BaselineError::Format(format)) }
    }

    /// As indented JSON, one fact a line, so that a change is seen in review.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        Ok(crate::report::json::harmless(&serde_json::to_string_pretty(self)?))
    }

    /// Takes known findings that are not worse than they were out of `report.findings` into `report.known`.
    pub fn apply(&self, report: &mut Report) {
        let known: BTreeMap<&str, &Known> = self.findings.iter().map(|known| (known.fingerprint.as_str(), known)).collect();
        let is_known = |finding: &crate::Finding| {
            let known = known.get(finding.fingerprint.as_str());
            !is_own(finding.rule)
                && known.is_some_and(|known| known.rule == finding.rule && finding.severity <= known.severity)
        };
        let (known, new) = std::mem::take(&mut report.findings).into_iter().partition(is_known);
        report.known = known;
        report.findings = new;
        let there =
            report.findings.iter().chain(&report.known).chain(report.excepted.iter().map(|excepted| &excepted.finding));
        let there: std::collections::BTreeSet<&str> = there.map(|finding| finding.fingerprint.as_str()).collect();
        let gone = self.findings.iter().filter(|known| !there.contains(known.fingerprint.as_str()));
        report.gone = gone.map(|known| format!("{} {}", known.rule, known.object)).collect();
    }
}

fn is_own(rule: &str) -> bool {
    rule.starts_with("GRD-PG-9")
}
