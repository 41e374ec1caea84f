//! The formats of rich text, the sets that have names, and the elements that each lets through.

/// One format that a field of type `richtext` can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RichFormat {
    /// `strong`, `b`.
    Bold,
    /// `em`, `i`.
    Italic,
    /// `u`.
    Underline,
    /// `s`, `strike`, `del`.
    Strike,
    /// `code`.
    Code,
    /// `a` with `href`, `target` and `rel`.
    Link,
    /// `h1` to `h6`.
    Heading,
    /// `blockquote`.
    Blockquote,
    /// `pre`, and `class` on it and on `code`.
    CodeBlock,
    /// `ul`, `li`.
    BulletList,
    /// `ol`, `li`.
    OrderedList,
    /// `hr`.
    HorizontalRule,
}

use RichFormat::{
    Blockquote, Bold, BulletList, Code, CodeBlock, Heading, HorizontalRule, Italic, Link, OrderedList,
    Strike, Underline,
};

impl RichFormat {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Bold,
        Italic,
        Underline,
        Strike,
        Code,
        Link,
        Heading,
        Blockquote,
        CodeBlock,
        BulletList,
        OrderedList,
        HorizontalRule,
    ];

    /// The word in `schema.yaml`.
    pub const fn name(self) -> &'static str {
        match self {
            Bold => "bold",
            Italic => "italic",
            Underline => "underline",
            Strike => "strike",
            Code => "code",
            Link => "link",
            Heading => "heading",
            Blockquote => "blockquote",
            CodeBlock => "codeblock",
            BulletList => "bulletlist",
            OrderedList => "orderedlist",
            HorizontalRule => "horizontalrule",
        }
    }
}

/// A set of formats. Paragraphs and line breaks are in every one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RichFormats(u16);

impl RichFormats {
    /// The set of these.
    pub(crate) const fn of(formats: &[RichFormat]) -> Self {
        let (mut set, mut at) = (Self(0), 0);
        while at < formats.len() {
            set = set.with(formats[at]);
            at += 1;
        }
        set
    }

    pub(crate) const fn with(self, format: RichFormat) -> Self {
        Self(self.0 | 1 << format as u16)
    }

    pub(crate) const fn without(self, format: RichFormat) -> Self {
        Self(self.0 & !(1 << format as u16))
    }

    /// Whether one of these is in it, or none is asked for.
    pub(crate) fn has_any(self, formats: &[RichFormat]) -> bool {
        formats.is_empty() || self.0 & Self::of(formats).0 != 0
    }

    /// Those in it, in the order of the documentation.
    pub fn iter(self) -> impl Iterator<Item = RichFormat> {
        RichFormat::ALL
            .into_iter()
            .filter(move |format| self.has_any(&[*format]))
    }
}

/// The preset of a field that names none.
pub(crate) const BASIC: RichFormats = RichFormats::of(&[Bold, Italic, Link, BulletList]);

/// Sets with names.
pub(crate) const PRESETS: [(&str, RichFormats); 4] = [
    ("minimal", RichFormats::of(&[Bold, Italic])),
    ("basic", BASIC),
    (
        "standard",
        RichFormats::of(&[
            Bold,
            Italic,
            Underline,
            Strike,
            Link,
            Heading,
            BulletList,
            OrderedList,
            Blockquote,
        ]),
    ),
    ("full", RichFormats::of(&RichFormat::ALL)),
];

/// The element of that name, and the formats of which one lets it through: none for those that always pass.
pub(super) fn element(name: &str) -> Option<(&'static str, &'static [RichFormat])> {
    const ELEMENTS: [(&str, &[RichFormat]); 24] = [
        ("p", &[]),
        ("br", &[]),
        ("strong", &[Bold]),
        ("b", &[Bold]),
        ("em", &[Italic]),
        ("i", &[Italic]),
        ("u", &[Underline]),
        ("s", &[Strike]),
        ("strike", &[Strike]),
        ("del", &[Strike]),
        ("code", &[Code]),
        ("a", &[Link]),
        ("h1", &[Heading]),
        ("h2", &[Heading]),
        ("h3", &[Heading]),
        ("h4", &[Heading]),
        ("h5", &[Heading]),
        ("h6", &[Heading]),
        ("blockquote", &[Blockquote]),
        ("pre", &[CodeBlock]),
        ("ul", &[BulletList]),
        ("ol", &[OrderedList]),
        ("li", &[BulletList, OrderedList]),
        ("hr", &[HorizontalRule]),
    ];
    ELEMENTS.iter().find(|(known, _)| *known == name).copied()
}
