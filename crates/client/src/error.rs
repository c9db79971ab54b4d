//! Why a request did not bring what was asked for, in words for the person at the terminal.

use guardian_model::api::Problem;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, and said why.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// Nobody listens there.
    #[error("cannot reach Guardian at {server}: is `guardian up` running?")]
    Unreachable {
        /// The address that was tried.
        server: String,
        /// What the connection ended with.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time. What was asked for may still happen: look before asking again.
    #[error("Guardian at {server} did not answer in time")]
    Timeout {
        /// The address that was asked.
        server: String,
        /// What the connection ended with.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke in the middle, or the answer has another shape than this client knows.
    #[error("the answer of {server} cannot be read; are server and client of the same version?")]
    Answer {
        /// The address that was asked.
        server: String,
        /// What is wrong with the answer.
        #[source]
        source: reqwest::Error,
    },
    /// An error without a problem document: something between here and Guardian answered.
    #[error("{server} answered {status} without a problem document: is that Guardian?")]
    Foreign {
        /// The address that was asked.
        server: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server's address is none.
    #[error("`{0}` is no address of Guardian; write `http://127.0.0.1:7117`")]
    Address(String),
    /// An empty name, or dots only.
    #[error("`{0}` names nothing")]
    Name(String),
    /// The token cannot be sent.
    #[error("the token contains characters that no token has; was the file cut or edited?")]
    Token,
}

impl ClientError {
    /// The server's problem document, when it sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Problem(problem) => Some(problem.status),
            Self::Foreign { status, .. } => Some(*status),
            _ => None,
        }
    }
}
