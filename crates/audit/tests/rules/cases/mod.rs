//! The cases, one file a group of rules. A new file is declared here and its two lists are added to [`CASES`] and
//! [`NEAR_MISSES`].

pub(crate) mod code;
pub(crate) mod context;
pub(crate) mod keys;
pub(crate) mod operation;
pub(crate) mod outside;
pub(crate) mod policies;
pub(crate) mod privileges;
pub(crate) mod roles;
pub(crate) mod server;
pub(crate) mod views;

use crate::bench::{Case, NearMiss};

/// Every flaw.
pub(crate) const CASES: &[&[Case]] = &[
    code::CASES,
    keys::CASES,
    operation::CASES,
    outside::CASES,
    context::CASES,
    policies::CASES,
    privileges::CASES,
    roles::CASES,
    server::CASES,
    views::CASES,
];

/// Every near miss.
pub(crate) const NEAR_MISSES: &[&[NearMiss]] = &[
    code::NEAR_MISSES,
    keys::NEAR_MISSES,
    operation::NEAR_MISSES,
    outside::NEAR_MISSES,
    context::NEAR_MISSES,
    policies::NEAR_MISSES,
    privileges::NEAR_MISSES,
    roles::NEAR_MISSES,
    server::NEAR_MISSES,
    views::NEAR_MISSES,
];
