//! The JSON Schema of `guardian.toml`, for editors. Committed as `docs/guardian.schema.json`.

use super::Config;

/// The schema as pretty JSON with a final newline.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Config);
    // Serialising a value that was just built from plain maps cannot fail.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
