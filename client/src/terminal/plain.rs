//! Removes control characters from text. Much of the output comes from a mesh or from files of other people, and
//! control sequences can change a terminal's title and colours, and even simulate keystrokes.

const REPLACEMENT: char = '\u{fffd}';

/// Text of one line or several: keeps only line breaks and tabs.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { REPLACEMENT } else { c })
        .collect()
}

/// Text for a part of one line: line breaks are replaced too, so that it cannot imitate other lines.
pub fn plain_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { REPLACEMENT } else { c }).collect()
}

/// An error and its causes in one text; a cause whose text is included already is left out. Further lines are indented,
/// so that text from others cannot imitate lines of hermesh.
pub fn describe<'a>(
    chain: impl IntoIterator<Item = &'a (dyn std::error::Error + 'static)>,
) -> String {
    let causes = chain.into_iter().map(|cause| cause.to_string());
    let text =
        causes.fold(String::new(), |text, cause| match (text.is_empty(), text.contains(&cause)) {
            (true, _) => cause,
            (false, true) => text,
            (false, false) => format!("{text}: {cause}"),
        });
    plain(&text).replace('\n', "\n  ")
}
