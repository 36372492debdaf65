//! A set of names and wildcard patterns, compared without regard to case and without allocation.

use std::cmp::Ordering;

use wildmatch::WildMatch;

/// Names (`CreateFlow`) and patterns (`*App*`, `Delete?ule`).
///
/// Plain ASCII names, the usual case, are looked up by binary search; only patterns cost a comparison each.
#[derive(Debug)]
pub(super) struct Names {
    /// In ASCII lower case, ordered by [`order`].
    exact: Vec<Box<str>>,
    patterns: Vec<WildMatch>,
}

impl Names {
    /// A set of `names`; `None` if there are none, or one of them is empty.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut set = Self {
            exact: Vec::new(),
            patterns: Vec::new(),
        };
        for name in names {
            if name.is_empty() {
                return None;
            }
            // A name beyond ASCII goes to the matcher that knows its lower case.
            if name.is_ascii() && !name.contains(['*', '?']) {
                set.exact.push(name.to_ascii_lowercase().into());
            } else {
                set.patterns.push(WildMatch::new_case_insensitive(name));
            }
        }
        set.exact.sort_by(|a, b| order(a, b));
        (!set.exact.is_empty() || !set.patterns.is_empty()).then_some(set)
    }

    /// Whether `text` is one of the names or fits one of the patterns.
    pub(super) fn contains(&self, text: &str) -> bool {
        self.exact
            .binary_search_by(|name| order(name, text))
            .is_ok()
            || self.patterns.iter().any(|pattern| pattern.matches(text))
    }
}

/// Orders a lower-case name against any text: by length first, which decides most comparisons in one step.
fn order(name: &str, text: &str) -> Ordering {
    name.len().cmp(&text.len()).then_with(|| {
        let text = text.bytes().map(|byte| byte.to_ascii_lowercase());
        name.bytes().cmp(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_match_whole_texts_in_any_case() {
        let names = Names::new(["CreateFlow", "*powerapp*", "Delete?ule", "Größe"]).unwrap();
        for text in [
            "CreateFlow",
            "CREATEFLOW",
            "createflow",
            "LaunchPowerApp",
            "PowerApp",
            "deleterule",
            "GRÖSSE".replace("SS", "ß").as_str(),
        ] {
            assert!(names.contains(text), "{text}");
        }
        for text in ["", "CreateFlows", "XCreateFlow", "PowerAp", "DeleteFrule"] {
            assert!(!names.contains(text), "{text}");
        }
    }

    #[test]
    fn each_of_many_names_is_found() {
        let all: Vec<String> = (0..500).map(|n| format!("Operation{n}")).collect();
        let names = Names::new(all.iter().map(String::as_str)).unwrap();
        assert!(
            all.iter()
                .all(|name| names.contains(&name.to_ascii_uppercase()))
        );
        assert!(!names.contains("Operation500"));
    }

    #[test]
    fn an_empty_set_and_an_empty_name_are_refused() {
        assert!(Names::new([]).is_none());
        assert!(Names::new(["a", ""]).is_none());
    }

    #[test]
    fn hostile_patterns_stay_fast() {
        let names = Names::new(["*a*a*a*a*a*a*a*a*b"]).unwrap();
        assert!(!names.contains(&"a".repeat(20_000)));
    }
}
