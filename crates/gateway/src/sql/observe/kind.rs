//! What can be found out about a statement, told by the server's own command tag.

use super::tap::End;

/// How a statement is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It returned rows and may have done nothing else: explained, and if it is plain, run again.
    Query,
    /// Explained only.
    Explained,
    /// It defines something, or empties a table: the application's own role may not.
    Defines,
    /// COPY into a table.
    CopyIn,
    /// Nothing can be said of it, and why.
    Opaque(&'static str),
}

/// What ends or begins a transaction, sets what concerns the session alone, or only reads on.
const OF_THE_SESSION: [&str; 22] = [
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "PREPARE TRANSACTION",
    "COMMIT PREPARED",
    "ROLLBACK PREPARED",
    "SET",
    "SET CONSTRAINTS",
    "RESET",
    "SHOW",
    "DISCARD",
    "PREPARE",
    "DEALLOCATE",
    "LISTEN",
    "UNLISTEN",
    "NOTIFY",
    "EXPLAIN",
    "CHECKPOINT",
    "CLOSE",
];
/// First words of tags that only the owner of what they concern may have.
const DEFINING: [&str; 13] = [
    "CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "GRANT", "REVOKE", "REINDEX", "CLUSTER", "REFRESH", "SECURITY",
    "REASSIGN", "IMPORT",
];

impl Kind {
    /// `None`: nothing that could fare otherwise.
    pub(crate) fn of(end: End<'_>) -> Option<Self> {
        let tag = match end {
            End::Several => return Some(Self::Opaque("several statements were sent in one message")),
            End::CopyIn => return Some(Self::CopyIn),
            End::Tag(tag) => std::str::from_utf8(tag).unwrap_or_default(),
        };
        let first = tag.split(' ').next().unwrap_or_default();
        match first {
            _ if OF_THE_SESSION.contains(&tag) => None,
            "DISCARD" | "DEALLOCATE" | "CLOSE" | "FETCH" | "MOVE" | "VACUUM" | "ANALYZE" => None,
            "SELECT" => Some(Self::Query),
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "DECLARE" => Some(Self::Explained),
            "COPY" => Some(Self::Opaque("COPY TO cannot be compared")),
            "DO" | "CALL" => Some(Self::Opaque("it runs code in the server")),
            _ if DEFINING.contains(&first) => Some(Self::Defines),
            _ => Some(Self::Opaque("the observer does not know this kind of statement")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_tags_tell_how_to_look() {
        let of = |tag: &str| Kind::of(End::Tag(tag.as_bytes()));
        for tag in ["BEGIN", "COMMIT", "SET", "DISCARD ALL", "DEALLOCATE ALL", "FETCH 3", "CLOSE CURSOR", "SAVEPOINT"] {
            assert_eq!(of(tag), None, "{tag}");
        }
        for tag in ["TRUNCATE TABLE", "CREATE TABLE", "ALTER TABLE", "DROP INDEX", "GRANT"] {
            assert_eq!(of(tag), Some(Kind::Defines), "{tag}");
        }
        assert_eq!(of("SELECT 12"), Some(Kind::Query));
        for tag in ["INSERT 0 1", "UPDATE 0", "DELETE 7", "MERGE 1", "DECLARE CURSOR"] {
            assert_eq!(of(tag), Some(Kind::Explained), "{tag}");
        }
        for tag in ["DO", "CALL", "COPY 3", "LOCK TABLE", "", "\u{fffd}"] {
            assert!(matches!(of(tag), Some(Kind::Opaque(_))), "{tag}");
        }
        assert_eq!(Kind::of(End::CopyIn), Some(Kind::CopyIn));
        assert!(matches!(Kind::of(End::Several), Some(Kind::Opaque(_))));
    }
}
