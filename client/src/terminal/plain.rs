//! Text without control characters. Much of what is printed comes from a mesh, or from files of others,
//! and a terminal obeys what it is sent: titles, colours, even keystrokes.

const REPLACEMENT: char = '\u{fffd}';

/// Text of one line or several: only line breaks and tabs are left.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { REPLACEMENT } else { c })
        .collect()
}

/// Text that is a part of one line, so that it cannot pass for lines of its own.
pub fn plain_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { REPLACEMENT } else { c }).collect()
}

/// An error and its causes in one text, but for those whose text is there already. Further lines are
/// indented: what others have put into them does not pass for lines of ours.
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
