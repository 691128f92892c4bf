//! `meta/records.csv`: every file and version with the entries that tell of it, for people with a
//! spreadsheet (RFC 4180).

use super::documents::ArchivedVersion;
use super::names::Names;

/// The first row.
pub const HEADER: &str = "uid,version,path,size,modified,executable,blake3,put,listed,deleted,\
                          event_entry,version_entry,file_entry\r\n";

/// The row of a version.
#[must_use]
pub fn row(names: &Names, version: &ArchivedVersion) -> String {
    let cells = [
        version.uid.to_string(),
        version.version.to_string(),
        version.path.to_string(),
        version.size.to_string(),
        version.modified.to_string(),
        version.executable.to_string(),
        version.hash.to_string(),
        version.put.to_string(),
        version.listed.to_string(),
        version.deleted.to_string(),
        names.event(version.version),
        names.version(version.uid, version.version),
        version.file.clone(),
    ];
    let mut row = cells.map(|text| cell(&text)).join(",");
    row.push_str("\r\n");
    row
}

/// A text as one cell. One that a spreadsheet would take for a formula has a `'` before it.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if formula || text.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas() {
        assert_eq!(cell("a b"), "a b");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        for text in ["=1+1", "+1", "-1", "@x", "\tx", "\rx"] {
            assert_eq!(cell(text), format!("\"'{text}\""));
        }
        assert_eq!(cell("a\nb"), "\"a\nb\"");
    }
}
