use proptest::prelude::*;
use proptest::sample::select;
use regex::Regex;

use super::*;

fn preset(name: &str) -> RichFormats {
    let found = PRESETS.iter().find(|(known, _)| *known == name);
    found.expect("a preset").1
}

/// `name` is that of a preset.
fn check(name: &str, html: &str, expected: &str) {
    let cleaned = clean(html, preset(name));
    assert_eq!(cleaned, expected, "{html}");
    assert_eq!(clean(&cleaned, preset(name)), cleaned, "{html}");
}

#[test]
fn text_stays_text() {
    check("basic", "", "");
    check("basic", "a < b && c > d", "a &lt; b &amp;&amp; c &gt; d");
    check(
        "basic",
        "&lt;b&gt; &eacute; &#233; &#xE9;",
        "&lt;b&gt; &eacute; &#233; &#xE9;",
    );
    check(
        "basic",
        "AT&T &; &#; &#x; &copy",
        "AT&amp;T &amp;; &amp;#; &amp;#x; &amp;copy",
    );
    check(
        "basic",
        "ä \u{1F600} \"quotes\" 'too'",
        "ä \u{1F600} \"quotes\" 'too'",
    );
    check("basic", "1<2 <", "1&lt;2 &lt;");
    check("basic", "a</", "a&lt;/");
}

/// D17 of the reference's checklist.
#[test]
fn presets_decide_what_passes() {
    let html = "<h1>T</h1><p>a <b>b</b> <i>c</i> <u>d</u> <s>e</s> <code>f</code> <a href=\"/g\">g</a></p><ul><li>h</li></ul>\
                <ol><li>i</li></ol><blockquote>j</blockquote><pre class=\"language-rust\">k</pre><hr><script>l()</script>";
    check("minimal", html, "T<p>a <b>b</b> <i>c</i> d e f g</p>hijk");
    check(
        "basic",
        html,
        "T<p>a <b>b</b> <i>c</i> d e f <a href=\"/g\">g</a></p><ul><li>h</li></ul><li>i</li>jk",
    );
    check(
        "standard",
        html,
        "<h1>T</h1><p>a <b>b</b> <i>c</i> <u>d</u> <s>e</s> f <a href=\"/g\">g</a></p><ul><li>h</li></ul>\
         <ol><li>i</li></ol><blockquote>j</blockquote>k",
    );
    check(
        "full",
        html,
        "<h1>T</h1><p>a <b>b</b> <i>c</i> <u>d</u> <s>e</s> <code>f</code> <a href=\"/g\">g</a></p><ul><li>h</li></ul>\
         <ol><li>i</li></ol><blockquote>j</blockquote><pre class=\"language-rust\">k</pre><hr>",
    );
}

#[test]
fn formats_are_named_once_and_the_sets_hold_what_they_say() {
    let names = |set: RichFormats| set.iter().map(RichFormat::name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(preset("minimal")), "bold italic");
    assert_eq!(names(preset("basic")), "bold italic link bulletlist");
    assert_eq!(
        names(preset("standard")),
        "bold italic underline strike link heading blockquote bulletlist orderedlist"
    );
    assert_eq!(preset("full").iter().count(), 12);
    let set = preset("basic").with(RichFormat::Code).without(RichFormat::Link);
    assert_eq!(names(set), "bold italic code bulletlist");
}

#[test]
fn what_is_not_allowed_leaves_its_text_or_goes_whole() {
    check("basic", "a<div class=x>b<span>c</span></div>d", "abcd");
    check("basic", "a<script>alert('<b>')</script>b", "ab");
    check("basic", "a<SCRIPT type=x>1</script foo>b", "ab");
    check("basic", "a<style>b{}</style >c<title>d</title>e", "ace");
    check(
        "basic",
        "a<iframe src=x>b</iframe>c<svg><b>d</b></svg>e<svg/>f",
        "acef",
    );
    check("basic", "a<script>b</scriptx>c", "a");
    check("basic", "a<script/>b</script>c", "ac");
    check(
        "basic",
        "a<!-- b --><!doctype html><?php b ?>c</ b>d<!---->e<!-->f<!--->g",
        "acdefg",
    );
    check("basic", "a<!-- b", "a");
    check("basic", "a<!-- b --!>c", "ac");
    check("basic", "a<b", "a");
    check("basic", "a<b title=\"c>d", "a");
    check("basic", "<img src=x onerror=alert(1)>a", "a");
    check(
        "basic",
        "<b onclick='x' style=\"y\" data-z class=q>a</b>",
        "<b>a</b>",
    );
}

#[test]
fn elements_are_nested_and_closed() {
    check("full", "<b>a<i>b</b>c</i>d", "<b>a<i>b</i></b>cd");
    check("full", "<p>a<p>b", "<p>a</p><p>b</p>");
    check(
        "full",
        "<p>a<ul><li>b<li>c</ul>d</p>",
        "<p>a</p><ul><li>b</li><li>c</li></ul>d",
    );
    check(
        "full",
        "<ul><li>a<ul><li>b</li></ul></li></ul>",
        "<ul><li>a<ul><li>b</li></ul></li></ul>",
    );
    check("full", "<h1>a<h2>b</h2>", "<h1>a</h1><h2>b</h2>");
    check("full", "</b>a</p>b</br>", "ab");
    check("full", "a<br/>b<BR>c<hr/>", "a<br>b<br>c<hr>");
    check("full", "<p>a<hr>b", "<p>a</p><hr>b");
    let deep = "<b>".repeat(100_000);
    let cleaned = clean(&deep, preset("full"));
    assert_eq!(cleaned, format!("{}{}", "<b>".repeat(100), "</b>".repeat(100)));
}

#[test]
fn links_lead_where_they_say_or_are_text() {
    check(
        "basic",
        "<a href=\"https://x.io/?a=1&b=2\" title=t>a</a>",
        "<a href=\"https://x.io/?a=1&amp;b=2\">a</a>",
    );
    check("basic", "<A HREF='HTTP://x' >a</A>", "<a href=\"HTTP://x\">a</a>");
    check(
        "basic",
        "<a href=mailto:a@b.io>a</a>",
        "<a href=\"mailto:a@b.io\">a</a>",
    );
    check("basic", "<a href=/x?a:b#c>a</a>", "<a href=\"/x?a:b#c\">a</a>");
    check(
        "basic",
        "<a href=x target=_BLANK>a</a>",
        "<a href=\"x\" target=\"_blank\" rel=\"noopener\">a</a>",
    );
    check(
        "basic",
        "<a rel='NoFollow x\"y noopener nofollow' target=_blank href=x>a</a>",
        "<a href=\"x\" target=\"_blank\" rel=\"nofollow noopener\">a</a>",
    );
    check("basic", "<a href=x target=frame7>a</a>", "<a href=\"x\">a</a>");
    check(
        "basic",
        "<a href='\"><script>alert(1)</script>'>a</a>",
        "<a href=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">a</a>",
    );
    check(
        "basic",
        "<a href=x><a href=y>a</a></a>",
        "<a href=\"x\"></a><a href=\"y\">a</a>",
    );
    check(
        "basic",
        "<a href=x href=javascript:y>a</a>",
        "<a href=\"x\">a</a>",
    );
    for href in [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " \u{1}javascript:alert(1)",
        "java\tscript:alert(1)",
        "java\nscript:alert(1)",
        "&#106;avascript:alert(1)",
        "&#x6A;avascript:alert(1)",
        "&#106avascript:alert(1)",
        "&#0000106avascript:alert(1)",
        "java&#9;script:alert(1)",
        "javascript&#58;alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "x:y",
        ":",
    ] {
        check("basic", &format!("<a href=\"{href}\">a</a>"), "a");
    }
    // Browsers read these names; they are not read here, so they stand for themselves.
    check(
        "basic",
        "<a href=\"javascript&colon;alert(1)\">a</a>",
        "<a href=\"javascript&amp;colon;alert(1)\">a</a>",
    );
    check("minimal", "<a href=x>a</a>", "a");
    check("basic", "<a>a</a>", "a");
}

#[test]
fn classes_are_for_code() {
    let class = "<pre class=\"language-c++ on'x hl\"><code class=language-rust>x</code></pre>";
    check(
        "full",
        class,
        "<pre class=\"language-c++ hl\"><code class=\"language-rust\">x</code></pre>",
    );
    let code = preset("basic").with(RichFormat::Code);
    assert_eq!(clean(class, code), "<code>x</code>");
}

#[test]
fn hostile_sizes_take_linear_time() {
    for piece in [
        "<",
        "<!--",
        "<a href=",
        "</",
        "&",
        "<script>",
        "<a b=\"",
        "&#",
        "<b><p><li>",
        "</script",
        "<a/",
    ] {
        let html = piece.repeat(1_000_000 / piece.len());
        let started = std::time::Instant::now();
        clean(&html, preset("full"));
        assert!(
            started.elapsed().as_secs() < 20,
            "{piece}: {:?}",
            started.elapsed()
        );
    }
}

fn html() -> impl Strategy<Value = String> {
    let pieces = [
        "<",
        ">",
        "</",
        "/>",
        "<b>",
        "</b>",
        "<p>",
        "</p>",
        "<a href=",
        "\"",
        "'",
        "=",
        "javascript:",
        "http://x",
        "&",
        "#",
        "x6A;",
        "amp;",
        "lt;",
        "<script>",
        "</script>",
        "<!--",
        "-->",
        "--!>",
        "<!",
        "<?",
        "<svg>",
        "<li>",
        "<ul>",
        "</ul>",
        "<pre class=",
        "<code>",
        "</code>",
        "<h1>",
        "</h1>",
        "<hr>",
        "<br>",
        " ",
        "\n",
        "\t",
        "a",
        "ä",
        " target=_blank",
        " rel=x",
        " onclick=",
        ";",
        "<blockquote>",
        "<ol>",
        "</li>",
        "</a>",
        "<A HREF='",
        "-",
        "!",
        "<style>",
    ];
    prop_oneof![
        9 => proptest::collection::vec(select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat()),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_known_tags_come_out_well_nested_and_once_is_enough(html in html(), name in select(&["minimal", "basic", "standard", "full"][..])) {
        let cleaned = clean(&html, preset(name));
        prop_assert_eq!(&clean(&cleaned, preset(name)), &cleaned);
        let tag = Regex::new(
            "^<(/?)(p|br|strong|b|em|i|u|s|strike|del|code|a|h[1-6]|blockquote|pre|ul|ol|li|hr)\
             ((?: (?:href|target|rel|class)=\"[^\"<>]*\")*)>",
        ).expect("a pattern");
        let mut open: Vec<String> = Vec::new();
        let mut rest = cleaned.as_str();
        while let Some(at) = rest.find(['<', '>']) {
            rest = &rest[at..];
            let Some(found) = tag.captures(rest) else {
                return Err(TestCaseError::fail(format!("{html:?} became {cleaned:?}")));
            };
            let element = found[2].to_owned();
            let (_, needs) = formats::element(&element).expect("known");
            prop_assert!(preset(name).has_any(needs), "{} has {}", cleaned, element);
            prop_assert!(!found[3].to_ascii_lowercase().contains("\"javascript:"), "{}", cleaned);
            if &found[1] == "/" {
                prop_assert_eq!(open.pop(), Some(element), "{}", cleaned);
            } else if !matches!(element.as_str(), "br" | "hr") {
                open.push(element);
            }
            rest = &rest[found[0].len()..];
        }
        prop_assert!(open.is_empty(), "{}", cleaned);
    }
}
