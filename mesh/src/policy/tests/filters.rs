use proptest::prelude::*;

use super::super::{covers, rules::is_filter};
use crate::matches;

/// All subjects of up to five tokens. No filter contains a `c`.
fn subjects() -> Vec<String> {
    let (mut all, mut longest) = (Vec::new(), vec![String::new()]);
    for _ in 0..5 {
        let longer = |start: &String| ["a", "b", "c"].map(|token| format!("{start}{token}."));
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().map(|subject| subject.trim_end_matches('.').to_owned()));
    }
    all
}

fn filter() -> impl Strategy<Value = String> {
    let tokens = prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 0..4);
    let end = prop::sample::select(vec!["a", "*", ">"]);
    (tokens, end).prop_map(|(mut tokens, end)| {
        tokens.push(end);
        tokens.join(".")
    })
}

proptest! {
    #[test]
    fn a_filter_covers_another_if_every_subject_of_it_is_its_own(allowed in filter(), wanted in filter()) {
        let within = subjects().iter().all(|s| !matches(&wanted, s) || matches(&allowed, s));
        prop_assert_eq!(covers(&allowed, &wanted), within);
    }

    #[test]
    fn a_filter_covers_the_subjects_that_it_matches(allowed in filter()) {
        for subject in subjects() {
            prop_assert_eq!(covers(&allowed, &subject), matches(&allowed, &subject));
        }
    }
}

#[test]
fn filters_are_read_as_nats_server_does() {
    for good in ["a", "a.b", "*", ">", "a.*.b", "a.>", "a.*"] {
        assert!(is_filter(good), "{good}");
    }
    for bad in ["", ".", "a.", ".a", "a..b", "a.>.b", "a.b*", "a.>b", "a b", "a\r\nb", "a.\u{e9}"] {
        assert!(!is_filter(bad), "{bad:?}");
    }
}
