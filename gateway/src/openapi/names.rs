//! Names that must be unique in a document although collections and functions are named by users.

use std::collections::BTreeSet;

/// Gives each wanted name out once; whoever comes later gets it with a number.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// With names that are not to be had.
    pub(super) fn without(taken: &[&str]) -> Self {
        Self {
            taken: taken.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    pub(super) fn take(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        name
    }
}

/// The name with its first letter in upper case.
pub(super) fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_out_once() {
        let mut names = Names::without(&["Error"]);
        assert_eq!(names.take("Error"), "Error_2");
        assert_eq!(names.take("Error_2"), "Error_2_2");
        assert_eq!(names.take("Notes"), "Notes");
        assert_eq!(names.take("Notes"), "Notes_2");
    }

    #[test]
    fn only_the_first_letter_changes() {
        for (name, expected) in [("notes", "Notes"), ("_x", "_x"), ("aB_c", "AB_c"), ("", "")] {
            assert_eq!(capitalized(name), expected);
        }
    }
}
