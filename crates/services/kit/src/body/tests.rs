use axum::body::Body;
use http::HeaderValue;

use super::*;

const URLENCODED: &str = "application/x-www-form-urlencoded";

async fn submit(content_type: &str, query: &str, body: impl Into<Body>) -> Result<Submitted, BodyError> {
    submit_within(BodyLimits::default(), content_type, query, body).await
}

async fn submit_within(
    limits: BodyLimits,
    content_type: &str,
    query: &str,
    body: impl Into<Body>,
) -> Result<Submitted, BodyError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    read(&headers, &Query::parse(query), body.into(), limits, TakeFiles::Not).await
}

async fn object(content_type: &str, query: &str, body: impl Into<Body>) -> Option<String> {
    let object = submit(content_type, query, body).await.ok()?.into_object().ok()?;
    Some(Json::Object(object).to_string())
}

#[tokio::test]
async fn json_bodies_are_read_as_seen() {
    let cases = [
        ("", Some("{}")),
        ("null", Some("{}")),
        ("[]", None),
        ("1", None),
        (r#"{"t":"a"} x"#, Some(r#"{"t":"a"}"#)),
        (r#"{"t":"a""#, None),
        (r#"{"t":"a","t":"b"}"#, None),
        ("  ", None),
        (r#"{"T":"x","t":"y"}"#, Some(r#"{"T":"x","t":"y"}"#)),
        (r#"{"j":1e400}"#, None),
        (r#"{"j":"\ud800"}"#, None),
        ("\u{feff}{}", None),
    ];
    for (body, expected) in cases {
        assert_eq!(object("application/json", "", body).await.as_deref(), expected, "{body}");
    }
}

#[tokio::test]
async fn types_match_by_their_beginning() {
    for content_type in ["application/json", "application/jsonx", "application/json; charset=utf-8"] {
        assert!(object(content_type, "", r#"{"t":1}"#).await.is_some(), "{content_type}");
    }
    for content_type in ["Application/JSON", "text/json", "text/plain", "text/xml", "application/xml", ""] {
        let error = submit(content_type, "", r#"{"t":1}"#).await.unwrap_err();
        assert!(matches!(error, BodyError::UnsupportedContentType), "{content_type}");
        assert!(submit(content_type, "", "").await.unwrap().is_empty(), "{content_type}");
    }
}

#[tokio::test]
async fn forms_are_read_as_seen() {
    let cases = [
        ("j=1&j=a", Some(r#"{"j":[1,"a"]}"#)),
        ("j=&j=", Some(r#"{"j":["",""]}"#)),
        ("j", Some(r#"{"j":""}"#)),
        ("j=%zz", None),
        ("t=a;b", None),
        ("j=a+b%20c", Some(r#"{"j":"a b c"}"#)),
        (r#"@jsonPayload={"j":5}&j=6"#, Some(r#"{"j":5}"#)),
        (r#"@jsonPayload={"j":5}&@jsonPayload={"j":7,"t":"q"}"#, Some(r#"{"j":7,"t":"q"}"#)),
        ("@jsonPayload={bad", None),
        ("@jsonPayload=", None),
        ("@jsonPayload=null", Some("{}")),
        ("@jsonPayload=[1]", None),
        (r#"@jsonPayload={"j":1} x"#, None),
        (r#"@jsonPayload={"j":"s"}&j=6"#, None),
    ];
    for (body, expected) in cases {
        assert_eq!(object(URLENCODED, "", body).await.as_deref(), expected, "{body}");
    }
}

#[tokio::test]
async fn a_form_takes_the_query_too() {
    assert_eq!(object(URLENCODED, "t=q&j=2", "j=1").await.as_deref(), Some(r#"{"j":[1,2],"t":"q"}"#));
    assert_eq!(object(URLENCODED, "x=%zz", "j=1").await, None);
    assert_eq!(object("application/json", "t=q", "{}").await.as_deref(), Some("{}"));
}

#[tokio::test]
async fn a_form_of_too_many_pairs_is_refused() {
    assert!(object(URLENCODED, "", format!("t=1{}", "&x=1".repeat(9_999))).await.is_some());
    assert!(object(URLENCODED, "", format!("t=1{}", "&x=1".repeat(10_000))).await.is_none());
}

fn multipart(parts: &[(&str, &str)], end: &str) -> String {
    let mut body = String::new();
    for (disposition, value) in parts {
        body += &format!("--BB\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{value}\r\n");
    }
    body + end
}

#[tokio::test]
async fn multipart_is_read_as_seen() {
    const TYPE: &str = "multipart/form-data; boundary=BB";
    let check = async |parts: &[(&str, &str)]| object(TYPE, "", multipart(parts, "--BB--\r\n")).await;
    assert_eq!(check(&[(r#"name="t""#, "abc")]).await.as_deref(), Some(r#"{"t":"abc"}"#));
    assert_eq!(
        check(&[(r#"name="j""#, "5"), (r#"name="j""#, "true")]).await.as_deref(),
        Some(r#"{"j":[5,true]}"#)
    );
    let payload = [(r#"name="@jsonPayload""#, r#"{"j":{"z":1}}"#), (r#"name="t""#, "x")];
    assert_eq!(check(&payload).await.as_deref(), Some(r#"{"j":{"z":1},"t":"x"}"#));
    assert_eq!(check(&[(r#"name="f"; filename="""#, "")]).await.as_deref(), Some(r#"{"f":""}"#));
    assert_eq!(check(&[]).await.as_deref(), Some("{}"));
    assert_eq!(check(&[(r#"x="t""#, "a"), (r#"name="t""#, "b")]).await.as_deref(), Some(r#"{"t":"b"}"#));
    assert_eq!(object(TYPE, "", multipart(&[(r#"name="t""#, "abc")], "")).await, None);
    assert_eq!(object("multipart/form-data", "", multipart(&[], "--BB--\r\n")).await, None);
    assert_eq!(object("multipart/form-data; boundary=CC", "", multipart(&[], "--BB--\r\n")).await, None);
    assert!(submit(TYPE, "", "").await.unwrap().is_empty());
}

#[tokio::test]
async fn too_many_parts_are_refused() {
    let parts = |count| multipart(&vec![(r#"name="t""#, "a"); count], "--BB--\r\n");
    assert!(submit("multipart/form-data; boundary=BB", "", parts(1000)).await.is_ok());
    assert!(submit("multipart/form-data; boundary=BB", "", parts(1001)).await.is_err());
}

#[tokio::test]
async fn files_are_read_past_where_they_are_not_taken() {
    let parts = [(r#"name="f1"; filename="a.txt""#, "data"), (r#"name="t""#, "x")];
    let body = multipart(&parts, "--BB--\r\n");
    let mut submitted = submit("multipart/form-data; boundary=BB", "", body).await.unwrap();
    let uploads = submitted.take_uploads();
    let [upload] = uploads.as_slice() else { panic!("one file") };
    assert_eq!((upload.field.as_str(), upload.file_name.as_str()), ("f1", "a.txt"));
    assert!(upload.file.is_none());
    assert_eq!(Json::Object(submitted.into_object().unwrap()).to_string(), r#"{"t":"x"}"#);
}

#[tokio::test]
async fn form_fields_keep_their_case_and_payloads_go_over_them() {
    let form = async |body: &'static str| submit(URLENCODED, "", body).await.unwrap().into_form();
    let plain = form("identity=a&identity=b&IDENTITY=c").await.unwrap();
    assert_eq!(plain.text("identity").unwrap(), Some("a"));
    assert_eq!(form("IDENTITY=a").await.unwrap().text("identity").unwrap(), None);
    let over = form(r#"@jsonPayload={"identity":"a"}&identity=zz"#).await.unwrap();
    assert_eq!(over.text("identity").unwrap(), Some("a"));
    assert!(form(r#"@jsonPayload={"identity":1}"#).await.unwrap().text("identity").is_err());
    assert!(form("@jsonPayload={bad").await.is_err());
}

#[tokio::test]
async fn a_body_over_its_limit_is_413() {
    let limits = BodyLimits::bytes(4);
    assert!(matches!(submit_within(limits, "application/json", "", "12345").await, Err(BodyError::TooLarge)));
    assert!(submit_within(limits, "application/json", "", "1234").await.is_ok());
    let body = multipart(&[(r#"name="t""#, "abc")], "--BB--\r\n");
    let error = submit_within(BodyLimits::bytes(20), "multipart/form-data; boundary=BB", "", body).await;
    assert!(matches!(error, Err(BodyError::TooLarge)));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("99999999999"));
    let error =
        read(&headers, &Query::default(), Body::from("{}"), BodyLimits::default(), TakeFiles::Not).await;
    assert_eq!(error.unwrap_err().into_record_error().status(), 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let pending = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
    let error = submit("application/json", "", Body::from_stream(pending)).await.unwrap_err();
    assert_eq!(error.into_record_error().status(), 408);
}

#[tokio::test]
async fn many_pieces_make_one_body() {
    let pieces = [r#"{"t""#, r#":"a"#, r#""}"#].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(object("application/json", "", body).await.as_deref(), Some(r#"{"t":"a"}"#));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        content_type in "(application/json|application/x-www-form-urlencoded|multipart/form-data; boundary=BB)",
        body in "(--BB(--)?|\\r\\n|Content-Disposition: form-data; |name=\"a\"|filename=\"b\"|[a&=%;{}:\"0-9]){0,30}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for is_form in [false, true] {
                let Ok(submitted) = submit(&content_type, "", body.clone()).await else { return };
                if is_form {
                    let _ = submitted.into_form().map(|form| form.text("a").is_ok());
                } else {
                    let _ = submitted.into_object();
                }
            }
        });
    }
}
