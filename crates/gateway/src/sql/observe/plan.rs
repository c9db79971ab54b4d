//! What the server's own plan of a statement says: the tables, what is done to them, and whether the statement may be run a
//! second time without anybody noticing.

use serde_json::Value;

/// What `EXPLAIN (VERBOSE, FORMAT JSON)` says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Schema, table, and what is done to it.
    pub(crate) uses: Vec<Use>,
    /// Names that are followed by a bracket, which functions are among.
    pub(crate) called: Vec<String>,
    /// It writes, locks rows, or reaches another server or code that is not PostgreSQL's.
    pub(crate) is_more_than_a_query: bool,
}

/// A table and what a statement does to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// The privilege that it takes.
    pub(crate) privilege: &'static str,
}

/// Kinds of steps that only read tables, and what is made of their rows. A kind that is not here is not run.
const PLAIN: [&str; 38] = [
    "Result",
    "ProjectSet",
    "Append",
    "Merge Append",
    "Recursive Union",
    "BitmapAnd",
    "BitmapOr",
    "Nested Loop",
    "Merge Join",
    "Hash Join",
    "Seq Scan",
    "Sample Scan",
    "Gather",
    "Gather Merge",
    "Index Scan",
    "Index Only Scan",
    "Bitmap Index Scan",
    "Bitmap Heap Scan",
    "Tid Scan",
    "Tid Range Scan",
    "Subquery Scan",
    "Function Scan",
    "Table Function Scan",
    "Values Scan",
    "CTE Scan",
    "Named Tuplestore Scan",
    "WorkTable Scan",
    "Materialize",
    "Memoize",
    "Sort",
    "Incremental Sort",
    "Group",
    "Aggregate",
    "WindowAgg",
    "Unique",
    "SetOp",
    "Limit",
    "Hash",
];

impl Plan {
    /// Reads the plan; `None` when it is none.
    pub(crate) fn read(json: &str) -> Option<Self> {
        let parsed: Value = serde_json::from_str(json).ok()?;
        let mut plan = Self::default();
        plan.node(parsed.get(0)?.get("Plan")?);
        Some(plan)
    }

    /// The tables, as a person names them.
    pub(crate) fn tables(&self) -> Vec<String> {
        let mut tables: Vec<String> = self.uses.iter().map(|used| format!("{}.{}", used.schema, used.table)).collect();
        tables.sort();
        tables.dedup();
        tables
    }

    fn node(&mut self, node: &Value) {
        let text = |key: &str| node.get(key).and_then(Value::as_str);
        let kind = text("Node Type").unwrap_or_default();
        self.is_more_than_a_query |= !PLAIN.contains(&kind);
        if let (Some(table), Some(schema)) = (text("Relation Name"), text("Schema")) {
            let privilege = match (kind, text("Operation")) {
                ("ModifyTable", Some("Insert")) => "INSERT",
                ("ModifyTable", Some("Delete")) => "DELETE",
                ("ModifyTable", Some("Update")) => "UPDATE",
                // MERGE takes what its clauses do, which the plan does not say.
                ("ModifyTable", _) => "",
                _ => "SELECT",
            };
            let used = Use { schema: schema.to_owned(), table: table.to_owned(), privilege };
            if self.uses.len() < 100 && !self.uses.contains(&used) {
                self.uses.push(used);
            }
        }
        let Some(fields) = node.as_object() else { return };
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("Plans", Value::Array(plans)) => plans.iter().for_each(|plan| self.node(plan)),
                _ => self.texts(value),
            }
        }
    }

    /// Every text of a step, however deep: grouping sets are lists of lists.
    fn texts(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.expression(text),
            Value::Array(items) => items.iter().for_each(|item| self.texts(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.texts(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Notes the names in front of brackets. The server wrote the text, always in the same way.
    fn expression(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\'' => at = after(bytes, at, b'\''),
                b'(' => {
                    self.called_before(&text[..at]);
                    at += 1;
                }
                b'"' => at = after(bytes, at, b'"'),
                _ => at += 1,
            }
        }
    }

    fn called_before(&mut self, text: &str) {
        let is_of_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
        let name = match text.strip_suffix('"') {
            Some(quoted) => quoted.rsplit('"').next().unwrap_or_default(),
            None => text.rsplit(|letter| !is_of_name(letter)).next().unwrap_or_default(),
        };
        if !name.is_empty() && !self.called.iter().any(|known| known == name) {
            self.called.push(name.to_owned());
        }
    }
}

/// Behind a quoted text that begins at `at`.
fn after(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_privileges_and_functions_are_read_from_the_plan() {
        let json = r#"[{"Plan": {"Node Type": "Nested Loop", "Output": ["t.id", "my_fn(t.a, 'no_fn(1)')", "public.\"Odd fn\"(t.b)"],
            "Plans": [
                {"Node Type": "Seq Scan", "Relation Name": "ticket", "Schema": "public", "Alias": "t",
                 "Filter": "((t.a = ('x'::text || 'it''s('::text)) AND (COALESCE(t.b, 1) > 0))"},
                {"Node Type": "Function Scan", "Function Name": "pg_sleep", "Schema": "pg_catalog",
                 "Function Call": "pg_sleep('1'::double precision)"}]}}]"#;
        let plan = Plan::read(json).unwrap();
        assert_eq!(plan.tables(), ["public.ticket"]);
        assert_eq!(plan.uses[0].privilege, "SELECT");
        assert!(!plan.is_more_than_a_query);
        let mut called = plan.called.clone();
        called.sort();
        assert_eq!(called, ["COALESCE", "Odd fn", "my_fn", "pg_sleep"].map(str::to_owned));
    }

    #[test]
    fn what_writes_locks_or_leaves_the_server_is_more_than_a_query() {
        for kind in ["ModifyTable", "LockRows", "Foreign Scan", "Custom Scan", "Of the future"] {
            let json = format!(
                r#"[{{"Plan": {{"Node Type": "Limit", "Plans": [{{"Node Type": "{kind}", "Operation": "Delete",
                    "Relation Name": "t", "Schema": "s"}}]}}}}]"#
            );
            assert!(Plan::read(&json).unwrap().is_more_than_a_query, "{kind}");
        }
        let json = r#"[{"Plan": {"Node Type": "ModifyTable", "Operation": "Insert", "Relation Name": "t", "Schema": "s"}}]"#;
        assert_eq!(Plan::read(json).unwrap().uses[0].privilege, "INSERT");
    }

    #[test]
    fn what_is_no_plan_is_none() {
        for json in ["", "[]", "{}", "[{}]", "null"] {
            assert_eq!(Plan::read(json), None);
        }
    }
}
