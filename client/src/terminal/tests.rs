use super::*;

fn detect(is_terminal: bool, variables: &[(&str, &str)]) -> Style {
    Style::detect(is_terminal, |name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_style_follows_the_environment() {
    let utf8 = ("LANG", "en_GB.UTF-8");
    let full = [utf8, ("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];
    assert_eq!(detect(true, &full), Style::TrueColor);
    assert_eq!(detect(true, &full[..2]), Style::Palette);
    assert_eq!(detect(true, &[utf8, ("TERM", "vt100")]), Style::Ascii);
    assert_eq!(detect(false, &full), Style::Ascii);
    assert_eq!(detect(true, &full[1..]), Style::Ascii);
    for (name, value, expected) in [
        ("NO_COLOR", "1", Style::Ascii),
        ("NO_COLOR", "", Style::TrueColor),
        ("LC_ALL", "C", Style::Ascii),
        ("LC_ALL", "de_DE.utf8", Style::TrueColor),
    ] {
        let variables = [&[(name, value)], &full[..]].concat();
        assert_eq!(detect(true, &variables), expected, "{name}={value}");
    }
    assert_eq!(detect(true, &[utf8, ("TERM", "dumb"), ("COLORTERM", "truecolor")]), Style::Ascii);
}

/// The text without its escape sequences.
fn visible(line: &str) -> String {
    let mut pieces = line.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or("", |(_, rest)| rest))
}

#[test]
fn pictures_have_the_size_that_shows_them() {
    for (side, columns, lines) in [(8, 16, 8), (28, 28, 14), (5, 20, 10), (17, 17, 9)] {
        let picture = Picture::new(side, &vec![0.0; side * side]).unwrap();
        for style in [Style::TrueColor, Style::Palette, Style::Ascii] {
            let drawn = picture.lines(style);
            assert_eq!(drawn.len(), lines, "{side} {style:?}");
            for line in &drawn {
                assert_eq!(visible(line).chars().count(), columns, "{side} {style:?}");
            }
        }
    }
}

#[test]
fn pixels_stand_where_they_belong() {
    // 16 wide, so not enlarged: the first pixel above, the last one below.
    let mut values = vec![0.0; 32];
    values[0] = 16.0;
    values[31] = 8.0;
    let picture = Picture::new(16, &values).unwrap();
    assert_eq!(picture.lines(Style::Ascii), ["+              :"]);

    let line = &picture.lines(Style::TrueColor)[0];
    assert!(line.starts_with("\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[38;2;0;0;0;48;2;0;0;0m▀▀"));
    assert!(line.ends_with("▀\x1b[38;2;0;0;0;48;2;128;128;128m▀\x1b[0m"), "{line:?}");

    let line = &picture.lines(Style::Palette)[0];
    assert!(line.starts_with("\x1b[38;5;231;48;5;16m▀"), "{line:?}");
}

#[test]
fn the_whole_range_is_used() {
    let all: Vec<f64> = (0..32).map(|i| f64::from(i % 16) - 7.0).collect();
    let drawn = Picture::new(16, &all).unwrap().lines(Style::Ascii);
    assert!(drawn[0].starts_with(' ') && drawn[0].ends_with('@'), "{drawn:?}");
    let extreme = Picture::new(2, &[f64::MIN, f64::MAX]).unwrap();
    assert!(extreme.lines(Style::Ascii)[0].starts_with(' '));
}

#[test]
fn what_is_not_a_picture_is_none() {
    assert_eq!(Picture::new(0, &[1.0]), None);
    assert_eq!(Picture::new(2, &[]), None);
    assert_eq!(Picture::new(2, &[1.0; 3]), None);
    assert_eq!(Picture::new(1, &[f64::NAN]), None);
}

#[test]
fn tables_align() {
    let mut table = TextTable::new(["operator", "time", "note"]);
    table.push(["bootstrap", "1.25 s", ""]);
    table.push(["linear", "98 ms", "µ, packed"]);
    table.push(["pack", "–"]);
    let expected = "\
operator     time  note
─────────  ──────  ─────────
bootstrap  1.25 s
linear      98 ms  µ, packed
pack            –
";
    assert_eq!(table.to_string(), expected);
}

#[test]
fn quantities_read_well() {
    for (count, text) in [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (8240, "8.24 kB"),
        (20_150_000, "20.1 MB"),
        (999_499, "999 kB"),
        (999_999, "1.00 MB"),
        (u64::MAX, "18.4 EB"),
    ] {
        assert_eq!(units::bytes(count), text, "{count}");
    }
    for (duration, text) in [
        (0.0, "0 s"),
        (1.5e-7, "0.15 µs"),
        (999.9e-6, "1.00 ms"),
        (0.0132, "13.2 ms"),
        (0.9999, "1.00 s"),
        (2.306, "2.31 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (245.0, "4 min 05 s"),
        (7384.0, "2 h 03 min"),
        (-0.5, "-500 ms"),
        (f64::INFINITY, "inf"),
    ] {
        assert_eq!(units::seconds(duration), text, "{duration}");
    }
    assert_eq!(units::percent(0.9849), "98.5 %");
    assert_eq!(units::percent(1.0), "100.0 %");
}

/// Control sequences: window title, clear screen, an 8-bit escape, an overwritten line.
const HOSTILE: &str = "full\x1b]0;owned\x07\x1b[2J\u{9b}31m\x7f\rok\nerror: none\tb";

#[test]
fn what_others_wrote_does_not_steer_the_terminal() {
    let allowed = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
    assert!(allowed(&plain(HOSTILE)), "{:?}", plain(HOSTILE));
    assert!(plain(HOSTILE).ends_with("ok\nerror: none\tb"));
    assert_eq!(plain("größer\n\t7 µs\n"), "größer\n\t7 µs\n");
    assert!(!plain_line(HOSTILE).contains(char::is_control));
    let mut table = TextTable::new(["key", "parameters"]);
    table.push(["1", HOSTILE]);
    let table = table.to_string();
    assert!(table.lines().count() == 3 && !table.contains(['\x1b', '\t', '\r']), "{table:?}");
}

#[test]
fn an_error_that_others_wrote_is_one_error() {
    let refusal = hermesh_mesh::Error::Start { why: HOSTILE.into() };
    let error = anyhow::Error::from(crate::Error::from(refusal)).context("cannot upload");
    let text = describe(error.chain());
    assert!(text.starts_with("cannot upload: cannot start nats-server: full"), "{text:?}");
    assert!(!text.contains(['\x1b', '\r', '\u{9b}']), "{text:?}");
    // No part of it looks like a separate error.
    assert!(text.lines().skip(1).all(|line| line.starts_with("  ")), "{text:?}");
}
