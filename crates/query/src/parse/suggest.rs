//! Hints in errors: the nearest known name, and callers' text cut to a length that can be shown.

/// `did you mean …?`, where a candidate is near enough to be meant.
pub(super) fn did_you_mean<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    alyx_core::nearest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The text, cut where it is too long for a message.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
