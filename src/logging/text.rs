//! What a log line looks like. The only place that formats one.
//!
//! Must not know: where lines go.

use log::Level;
use std::fmt::Arguments;

/// A record as a line, without the newline. Messages (`--trace`) come as they are.
pub(super) fn line(level: Level, words: Arguments<'_>) -> String {
    let line = match level {
        Level::Trace => words.to_string(),
        Level::Info => format!("ring9: {words}"),
        level => format!("ring9: {}: {words}", level.as_str().to_lowercase()),
    };
    // A record is one line: lines are counted by their ends.
    if line.contains('\n') { line.replace('\n', " ") } else { line }
}

/// Says how many lines of a kind the limiter has left out.
pub(super) fn left_out(kind: &str, count: u64) -> String {
    line(Level::Info, format_args!("{count} more lines of the kind {kind} were left out"))
}

/// Says how many lines found no room, or were lost by an error of the descriptor.
pub(super) fn dropped(count: u64) -> String {
    line(Level::Warn, format_args!("{count} lines were dropped"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(line(Level::Info, format_args!("peer {}: gone", 3)), "ring9: peer 3: gone");
        assert_eq!(line(Level::Error, format_args!("no\nroom")), "ring9: error: no room");
        assert_eq!(line(Level::Trace, format_args!("Tversion")), "Tversion");
    }
}
