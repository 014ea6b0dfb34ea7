use std::io::IsTerminal;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Half blocks in 24-bit colours.
    TrueColor,
    /// Half blocks in the palette of 256 colours.
    Palette,
    /// Characters of different weight, no escape sequences: for pipes, files and `NO_COLOR`.
    Ascii,
}

impl Style {
    /// The style that suits standard output.
    pub fn of_stdout() -> Self {
        Self::detect(std::io::stdout().is_terminal(), |name| std::env::var(name).ok())
    }

    /// The style for an output and its environment: `NO_COLOR` (<https://no-color.org>), `TERM`,
    /// `COLORTERM`, and a UTF-8 locale for the half blocks.
    pub fn detect(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        // The first one set decides, as in setlocale(3).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        if !is_terminal || set("NO_COLOR").is_some() || term == "dumb" || !utf8 {
            return Self::Ascii;
        }
        match set("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::TrueColor,
            _ if term.contains("256color") => Self::Palette,
            _ => Self::Ascii,
        }
    }
}
