use super::*;

fn shape(text: &str) -> String {
    match parse(text) {
        Ok(node) => show(&node),
        Err(error) => format!("error: {error}"),
    }
}

fn show(node: &Node) -> String {
    let list = |nodes: &[Node]| nodes.iter().map(show).collect::<Vec<_>>().join(" ");
    match node {
        Node::Compare { left, right, .. } => format!("{}:{}", left.text, right.text),
        Node::All(nodes) => format!("&({})", list(nodes)),
        Node::Any(nodes) => format!("|({})", list(nodes)),
    }
}

#[test]
fn and_binds_tighter_than_or() {
    assert_eq!(shape("a=1||b=2&&c=3"), "|(a:1 &(b:2 c:3))");
    assert_eq!(shape("(a=1||b=2)&&c=3"), "&(|(a:1 b:2) c:3)");
}

#[test]
fn a_group_needs_no_join_and_reuses_the_last_one() {
    assert_eq!(shape("(n=1)(b=2)"), "&(n:1 b:2)");
    assert_eq!(shape("n=1||(n=2)(b=3)"), "|(n:1 n:2 b:3)");
    assert_eq!(shape("n=1 (b=2)"), "&(n:1 b:2)");
    assert!(shape("(n=1) n=2").starts_with("error"));
}

#[test]
fn a_group_drops_an_unfinished_comparison() {
    assert_eq!(shape("title=(n=1)"), "n:1");
    assert_eq!(shape("title (n=1)"), "n:1");
}

#[test]
fn six_escapes_are_decoded() {
    assert_eq!(shape(r"a='\\\'\x\%'"), r"a:\'\x\%");
    assert!(shape(r"a='\'").starts_with("error"));
    assert!(shape(r"a='\\''").starts_with("error"));
    assert_eq!(shape(r"a='\\\''"), r"a:\'");
}

#[test]
fn numbers_have_a_sign_and_one_dot() {
    for good in ["a=-1", "a=-.5", "a=1.5", "a=007"] {
        assert!(!shape(good).starts_with("error"), "{good}");
    }
    for bad in ["a=-", "a=1.", "a=+1", "a=1e3", "a=1.5.2", "a=--1", "a=.5"] {
        assert!(shape(bad).starts_with("error"), "{bad}");
    }
}

#[test]
fn messages_are_the_contracts() {
    let cases = [
        ("title", "invalid or incomplete filter expression"),
        ("title=1 &&", "invalid or incomplete filter expression"),
        ("(", "invalid formatted group - missing 1 closing bracket(s)"),
        ("title='a", "invalid quoted text \"'a\""),
        ("title==1", "invalid sign operator \"==\""),
        ("title=1 and n=2", "expected && or ||, got \"and\" (identifier)"),
        ("()", "empty filter expression"),
        (" \n", "empty filter expression"),
        ("title=1)", "unexpected character ')'"),
        ("j.=1", "invalid identifier \"j.\""),
        ("1title=1", "expected a sign operator, got \"title\" (identifier)"),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn comments_are_blank_and_nesting_is_bounded() {
    assert_eq!(shape("a=1 // b=2\n && c=3"), "&(a:1 c:3)");
    assert!(shape(&format!("{}a=1{}", "(".repeat(150), ")".repeat(150))).starts_with("a:1"));
    assert!(shape(&format!("{}a=1{}", "(".repeat(1000), ")".repeat(1000))).starts_with("error"));
    assert!(shape(&"(".repeat(100_000)).starts_with("error"));
}

#[test]
fn functions_take_a_trailing_comma_and_three_levels() {
    assert_eq!(shape("f(1,2,)=1"), "f:1");
    assert!(shape("f (1,2)=1").starts_with("error"));
    assert_eq!(shape("f(f(f(1)))=1"), "f:1");
    assert!(shape("f(f(f(f(1))))=1").starts_with("error"));
}
