//! What a file is: told by its first bytes, and where those do not say, by its name and what its uploader says.
//!
//! The bytes win: a page is a page and a picture a picture whatever it is called, and what is called a picture is not one
//! unless it begins like one. The patterns are those of <https://mimesniff.spec.whatwg.org/>, and some more.

/// The type of what nothing is known of.
const BYTES: &str = "application/octet-stream";

/// The media type of a file, with its charset where it is text. `head` are its first bytes, up to 512.
pub(super) fn media_type(head: &[u8], name: &str, declared: Option<&str>) -> String {
    let declared = declared.and_then(|kind| kind.split(';').next()).map(str::trim);
    let guessed = mime_guess::from_path(name).first_raw();
    let mut claims = guessed.into_iter().chain(declared).filter(|claim| is_type(claim));
    match sniffed(head) {
        Sniffed::Known(kind) => kind.to_owned(),
        Sniffed::Markup(kind) => with_charset(kind),
        Sniffed::Zip => claims
            .find(|claim| is_zipped(claim))
            .unwrap_or("application/zip")
            .to_owned(),
        Sniffed::Text => with_charset(claims.find(|claim| is_text(claim)).unwrap_or("text/plain")),
        Sniffed::Xml => with_charset(claims.find(|claim| claim.ends_with("xml")).unwrap_or("text/xml")),
        Sniffed::Nothing => claims
            .find(|claim| cannot_be_told(claim))
            .unwrap_or(BYTES)
            .to_owned(),
    }
}

enum Sniffed {
    /// That, whatever is said.
    Known(&'static str),
    /// Text that a browser takes for more than text.
    Markup(&'static str),
    /// An archive, or one of the many formats that are archives.
    Zip,
    Xml,
    /// Text of any kind.
    Text,
    Nothing,
}

/// Patterns at the start of a file.
const MAGIC: [(&[u8], &str); 23] = [
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"\0\0\x01\0", "image/x-icon"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"%!PS-Adobe-", "application/postscript"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\0asm", "application/wasm"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"OTTO", "font/otf"),
    (b"OggS\0", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"MThd\0\0\0\x06", "audio/midi"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
];
/// Patterns of so few bytes count in what is no text only.
const SHORT_MAGIC: usize = 4;
/// What an HTML page begins with, in either case, before a blank or `>`.
const HTML: [&[u8]; 17] = [
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<script",
    b"<iframe",
    b"<h1",
    b"<div",
    b"<font",
    b"<table",
    b"<a",
    b"<style",
    b"<title",
    b"<b",
    b"<body",
    b"<br",
    b"<p",
    b"<!--",
];

fn sniffed(head: &[u8]) -> Sniffed {
    // Text may begin with a few letters by chance.
    let readable = is_readable(head);
    let fits = |magic: &[u8]| head.starts_with(magic) && !(readable && magic.len() <= SHORT_MAGIC);
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| fits(magic)) {
        return Sniffed::Known(kind);
    }
    if let Some(kind) = in_a_container(head) {
        return Sniffed::Known(kind);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Sniffed::Zip;
    }
    if !readable {
        return Sniffed::Nothing;
    }
    let text = head
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(head)
        .trim_ascii_start();
    let begins = |tag: &[u8]| {
        text.get(..tag.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(tag))
    };
    let closed = |tag: &[u8]| {
        tag == b"<!--"
            || matches!(
                text.get(tag.len()),
                None | Some(b' ' | b'>' | b'\t' | b'\n' | b'\r')
            )
    };
    if HTML.iter().any(|tag| begins(tag) && closed(tag)) && !has(text, b"<svg") {
        return Sniffed::Markup("text/html");
    }
    if begins(b"<svg") || ((begins(b"<?xml") || begins(b"<!")) && has(text, b"<svg")) {
        return Sniffed::Markup("image/svg+xml");
    }
    if begins(b"<?xml") {
        return if has(text, b"xhtml") {
            Sniffed::Markup("application/xhtml+xml")
        } else {
            Sniffed::Xml
        };
    }
    Sniffed::Text
}

/// Formats that share the beginning of a container.
fn in_a_container(head: &[u8]) -> Option<&'static str> {
    let at = |place: usize, text: &[u8]| head.get(place..place + text.len()) == Some(text);
    if at(0, b"RIFF") {
        return [
            ("image/webp", b"WEBPVP"),
            ("video/x-msvideo", b"AVI LI"),
            ("audio/wav", b"WAVEfm"),
        ]
        .into_iter()
        .find_map(|(kind, word)| at(8, word).then_some(kind));
    }
    if at(4, b"ftyp") {
        return Some(match head.get(8..12) {
            Some(b"avif" | b"avis") => "image/avif",
            Some(b"heic" | b"heix" | b"mif1") => "image/heic",
            Some(b"qt  ") => "video/quicktime",
            Some(b"M4A ") => "audio/mp4",
            _ => "video/mp4",
        });
    }
    if at(0, b"\0\x01\0\0\0") {
        return Some("font/ttf");
    }
    // A frame of MPEG audio without a tag before it.
    let frame = matches!(head, [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0);
    frame.then_some("audio/mpeg")
}

/// Whether bytes are text: UTF-8, or as much of it as is there, without control characters that no text has.
fn is_readable(head: &[u8]) -> bool {
    let control = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    let utf8 = match std::str::from_utf8(head) {
        Ok(_) => true,
        // The last character may have been cut.
        Err(error) => error.error_len().is_none(),
    };
    utf8 && !head.iter().any(control)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(&text.to_ascii_lowercase(), part).is_some()
}

fn with_charset(kind: &str) -> String {
    if kind.starts_with("text/") {
        format!("{kind}; charset=utf-8")
    } else {
        kind.to_owned()
    }
}

/// Text that has a type of its own.
fn is_text(kind: &str) -> bool {
    let (group, sort) = kind.split_once('/').unwrap_or_default();
    group == "text"
        || matches!(
            sort,
            "json"
                | "javascript"
                | "yaml"
                | "x-yaml"
                | "toml"
                | "sql"
                | "x-sh"
                | "x-ndjson"
                | "graphql"
                | "rtf"
        )
        || sort.ends_with("+json")
        || sort.ends_with("+yaml")
}

/// Archives with a name of their own.
fn is_zipped(kind: &str) -> bool {
    kind.starts_with("application/vnd.openxmlformats-officedocument.")
        || kind.starts_with("application/vnd.oasis.opendocument.")
        || kind.ends_with("+zip")
        || matches!(
            kind,
            "application/java-archive" | "application/vnd.android.package-archive"
        )
}

/// What does not always begin alike, so that its name has to be believed.
fn cannot_be_told(kind: &str) -> bool {
    const TOLD: [&str; 11] = [
        "application/pdf",
        "application/zip",
        "application/gzip",
        "application/wasm",
        "application/postscript",
        "application/json",
        "application/javascript",
        "application/ogg",
        "application/zstd",
        "application/vnd.rar",
        "application/x-7z-compressed",
    ];
    let group = kind.split('/').next().unwrap_or_default();
    let apart = matches!(group, "application" | "model" | "chemical" | "audio" | "video");
    let told = TOLD.contains(&kind)
        || kind.ends_with("xml")
        || is_text(kind)
        || is_zipped(kind)
        || MAGIC.iter().any(|(_, magic)| *magic == kind)
        || matches!(
            kind,
            "video/mp4" | "video/quicktime" | "audio/mp4" | "audio/wav" | "video/x-msvideo"
        );
    apart && !told
}

fn is_type(text: &str) -> bool {
    let fits = |part: &str| {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.len() <= 127 && part.bytes().all(token)
    };
    text.split_once('/')
        .is_some_and(|(group, sort)| fits(group) && fits(sort))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_say_what_a_file_is() {
        let check = |head: &[u8], name: &str, declared: Option<&str>, expected: &str| {
            assert_eq!(media_type(head, name, declared), expected, "{name} {declared:?}");
        };
        check(b"\x89PNG\r\n\x1a\n..", "a.txt", Some("text/plain"), "image/png");
        check(b"RIFF....WEBPVP8 ", "x", None, "image/webp");
        check(b"....ftypisom", "film.mp4", Some("video/mp4"), "video/mp4");
        check(b"%PDF-1.7", "x.html", None, "application/pdf");
        check(b"BM\0\0", "x", None, "image/bmp");
        check(b"BMW and OTTO", "x", None, "text/plain; charset=utf-8");
        check(b"hello", "x", None, "text/plain; charset=utf-8");
        check(b"", "x", None, "text/plain; charset=utf-8");
        check(b"h\xc3", "x.md", None, "text/markdown; charset=utf-8");
        check(
            b"{\"a\":1}",
            "x.json",
            Some("application/json"),
            "application/json",
        );
        check(
            b"{\"a\":1}",
            "x",
            Some("application/json; charset=utf-8"),
            "application/json",
        );
        check(
            b"a,b\n",
            "x.csv",
            Some("application/octet-stream"),
            "text/csv; charset=utf-8",
        );
        check(b"PK\x03\x04", "x.zip", None, "application/zip");
        check(
            b"PK\x03\x04",
            "x.docx",
            None,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        );
        check(b"\0\x01\x02\x03", "x.bin", None, "application/octet-stream");
        check(b"\0\x11\x02\x03", "x.glb", None, "model/gltf-binary");
        check(
            b"<?xml version=\"1.0\"?><feed>",
            "x.atom",
            None,
            "application/atom+xml",
        );
        check(
            b"<?xml version=\"1.0\"?><feed>",
            "x",
            None,
            "text/xml; charset=utf-8",
        );
    }

    #[test]
    fn pages_and_drawings_are_never_taken_for_something_harmless() {
        for page in [
            "<script>x</script>",
            "  <!DOCTYPE HTML>",
            "<html\n>",
            "<!-- --><b>",
            "\u{feff}<BODY onload=x>",
        ] {
            let kind = media_type(page.as_bytes(), "notes.txt", Some("text/plain"));
            assert_eq!(kind, "text/html; charset=utf-8", "{page}");
        }
        for drawing in [
            "<svg xmlns=x>",
            "<?xml version='1.0'?>\n<SVG>",
            "<!-- x --><svg>",
            "<!DOCTYPE svg><svg>",
        ] {
            assert_eq!(
                media_type(drawing.as_bytes(), "x.txt", None),
                "image/svg+xml",
                "{drawing}"
            );
        }
    }

    #[test]
    fn what_does_not_begin_like_a_picture_is_none() {
        let garbage = b"\x00\x05garbage";
        for claim in [
            "image/png",
            "application/pdf",
            "text/html",
            "image/svg+xml",
            "video/mp4",
            "nonsense",
            "a/b/c",
        ] {
            assert_eq!(media_type(garbage, "x", Some(claim)), BYTES, "{claim}");
        }
        assert_eq!(
            media_type(b"plain", "x.png", Some("image/png")),
            "text/plain; charset=utf-8"
        );
    }
}
