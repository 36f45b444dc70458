use super::*;

/// HTML, and what the contract's server made of it at 3, 8 and 1000 characters with an ellipsis.
const SEEN: &[(&str, &str, &str, &str)] = &[
    ("a<b>c</b>d", "acd", "acd", "acd"),
    ("<div>a</div><div>b</div>", "a b", "a b", "a b"),
    ("a<br>b", "ab", "ab", "ab"),
    ("a<br/>b", "ab", "ab", "ab"),
    ("<p>a<p>b", "a b", "a b", "a b"),
    ("1 < 2 > 3", "1 <...", "1 < 2 >...", "1 < 2 > 3"),
    ("a&lt;b&gt;", "a<b...", "a<b>", "a<b>"),
    (
        "&notanentity; &eacute; &copy &hellip; &#65; &#x42; &#0;",
        "¬an...",
        "¬anentit...",
        "¬anentity; é © … A B �",
    ),
    ("<!-- c -->x", "x", "x", "x"),
    ("<!doctype html><html><head><title>T</title></head><body>B</body></html>", "B", "B", "B"),
    ("<title>T</title>x", "x", "x", "x"),
    ("<textarea>in</textarea>x", "x", "x", "x"),
    ("<select><option>a</option></select>x", "x", "x", "x"),
    ("<form>f</form>x", "x", "x", "x"),
    ("<button>b</button>x", "x", "x", "x"),
    ("<img alt=z>x", "x", "x", "x"),
    ("<input>x", "x", "x", "x"),
    ("<svg><text>t</text></svg>x", "x", "x", "x"),
    ("<object>o</object>x", "x", "x", "x"),
    ("<embed>x", "x", "x", "x"),
    ("<picture>p</picture>x", "x", "x", "x"),
    ("<dialog>d</dialog>x", "x", "x", "x"),
    ("<template>t</template>x", "x", "x", "x"),
    ("<iframe>i</iframe>x", "x", "x", "x"),
    ("<noscript>n</noscript>x", "x", "x", "x"),
    ("<table><tr><td>a</td><td>b</td></tr></table>", "a b", "a b", "a b"),
    ("<h1>A</h1>b", "A b", "A b", "A b"),
    ("<span>a</span><span>b</span>", "ab", "ab", "ab"),
    ("<font>a</font>b", "a b", "a b", "a b"),
    ("<u>a</u>b", "a b", "a b", "a b"),
    ("a<custom-tag>b</custom-tag>c", "a b...", "a b c", "a b c"),
    ("<p>", "", "", ""),
    ("</p>x", "x", "x", "x"),
    ("a</b>c", "ac", "ac", "ac"),
    ("<b>x", "x", "x", "x"),
    ("<script>a", "", "", ""),
    ("x<style>b", "x", "x", "x"),
    ("<a href='x>y'>l</a>", "l", "l", "l"),
    ("a < b", "a <...", "a < b", "a < b"),
    ("a<", "a<", "a<", "a<"),
    ("<", "<", "<", "<"),
    ("a<3", "a<3", "a<3", "a<3"),
    ("<p", "", "", ""),
    ("x<p a", "x", "x", "x"),
    ("éééééééééé", "ééé...", "éééééééé...", "éééééééééé"),
    ("<b>éééé</b><b>éé</b><b>zz</b>tail", "ééé...", "ééééééta...", "éééééézztail"),
    ("  a  \n\t b  ", "a b", "a b", "a b"),
    ("a\u{a0}b", "a\u{a0}b", "a\u{a0}b", "a\u{a0}b"),
    ("a\u{a0}\u{a0} b\u{a0}", "a...", "a\u{a0}\u{a0} b", "a\u{a0}\u{a0} b"),
    ("<pre>  a\n b </pre>", "a b", "a b", "a b"),
    ("<label>a</label>b", "ab", "ab", "ab"),
    ("<i>a</i> <i>b</i>", "a b", "a b", "a b"),
    ("x<hr>y", "x y", "x y", "x y"),
    ("<li>a<li>b", "a b", "a b", "a b"),
    ("<dl><dt>a<dd>b</dl>", "a b", "a b", "a b"),
    ("<b><p>x</b>y</p>", "xy", "xy", "xy"),
    ("<mark>a</mark>b", "a b", "a b", "a b"),
    ("<s>a</s>b", "a b", "a b", "a b"),
    ("<del>a</del>b", "a b", "a b", "a b"),
    ("<plaintext>a<b>c", "a<b...", "a<b>c", "a<b>c"),
    ("<xmp><b>a</b></xmp>c", "<b>...", "<b>a</b>...", "<b>a</b> c"),
    ("<![CDATA[x]]>y", "y", "y", "y"),
    ("<?php x ?>y", "y", "y", "y"),
    ("<a><script>x</script>b</a>", "b", "b", "b"),
    ("<body>a</body>b", "ab", "ab", "ab"),
    ("</html>x", "x", "x", "x"),
    ("<head>a</head>b", "ab", "ab", "ab"),
    ("<head><meta>x", "x", "x", "x"),
    ("<math><mi>x</mi></math>y", "x y", "x y", "x y"),
    ("<button>a<p>b</button>c", "c", "c", "c"),
    ("<form><form>a</form>b</form>c", "bc", "bc", "bc"),
    ("<object><p>a</object>b", "b", "b", "b"),
    ("<select>a<b>c</b></select>d", "d", "d", "d"),
    ("<option>a<option>b", "", "", ""),
    ("<textarea>x", "", "", ""),
    ("<p><form>a</p>b</form>c", "c", "c", "c"),
    ("<ruby>a<rt>b</rt></ruby>", "a b", "a b", "a b"),
    ("<video>v</video>x", "v x", "v x", "v x"),
    ("<audio>v</audio>x", "v x", "v x", "v x"),
    ("<canvas>v</canvas>x", "v x", "v x", "v x"),
    ("<map><area></map>x", "x", "x", "x"),
    ("<noframes>a</noframes>b", "b", "b", "b"),
    ("<applet>a</applet>b", "b", "b", "b"),
    ("<optgroup>a</optgroup>b", "a b", "a b", "a b"),
    ("<IMG>x<BR>y<SCRIPT>z</SCRIPT>w", "xyw", "xyw", "xyw"),
    (
        "a\u{2003}b\u{85}c\u{b}d\u{c}e",
        "a\u{2003}b...",
        "a\u{2003}b\u{85}c\u{b}d...",
        "a\u{2003}b\u{85}c\u{b}d e",
    ),
];

#[test]
fn excerpts_are_as_seen() {
    let mut wrong = Vec::new();
    for (html, at_3, at_8, at_1000) in SEEN {
        for (max, expected) in [(3, at_3), (8, at_8), (1000, at_1000)] {
            let found = Excerpt { max, with_ellipsis: true }.of(html);
            if found != **expected {
                wrong.push(format!("{html:?} at {max}: {found:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn any_bytes_are_text() {
    let excerpt = Excerpt { max: usize::MAX, with_ellipsis: true };
    for html in ["</", "<!", "<a b=\"", "&#x110000;", "&#xd800;", "<b>".repeat(10_000).as_str()] {
        let _ = excerpt.of(html);
    }
}

proptest::proptest! {
    #[test]
    fn an_excerpt_is_no_longer_than_asked(html in "(</?(b|p|svg|form|title|select)/?>|<!--|-->|&[a-z]{0,3};?|[a-zé <>])*", max in 1_usize..20) {
        let excerpt = Excerpt { max, with_ellipsis: false }.of(&html);
        proptest::prop_assert!(excerpt.chars().count() <= max);
    }
}
