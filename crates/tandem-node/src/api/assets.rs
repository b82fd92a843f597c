//! The page's files, which are in the program. They hold no secret, so no token is asked for them.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Vite writes what the page loads here, under names that change with their content.
const HASHED: &str = "assets/";
const INDEX: &str = "index.html";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    data: Cow<'static, [u8]>,
    /// Of the content, SHA-256.
    hash: [u8; 32],
}

/// Looks a file up by its path within `web/dist`.
pub(super) type Files = fn(&str) -> Option<File>;

/// The page that was built in; `None` in a build without.
#[cfg(feature = "page")]
pub(super) const EMBEDDED: Option<Files> = Some(embedded::file);
#[cfg(not(feature = "page"))]
pub(super) const EMBEDDED: Option<Files> = None;

#[cfg(feature = "page")]
mod embedded {
    use rust_embed::RustEmbed;

    use super::File;

    #[derive(RustEmbed)]
    #[folder = "../../web/dist"]
    struct Dist;

    pub(super) fn file(path: &str) -> Option<File> {
        let file = Dist::get(path)?;
        Some(File { hash: file.metadata.sha256_hash(), data: file.data })
    }
}

/// What `GET /` answers in a build without the page. Plain: the policy lets no style in that is not a file.
const NO_PAGE: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Tandem</title></head>
<body>
<h1>Tandem is running</h1>
<p>This build of Tandem has no page. Everything that the page shows is also on the command line:
<code>tandem --help</code>.</p>
<p>To have the page, build with <code>./x build</code> in Tandem's source and start the node again.</p>
</body>
</html>
";

/// Answers a `GET` for a path that is not the API's; `None` when nothing is there.
pub(super) fn answer(files: Option<Files>, path: &str, asked: &HeaderMap) -> Option<Response> {
    let path = path.strip_prefix('/')?;
    let last = path.rsplit('/').next().unwrap_or(path);
    // The page finds its way among its screens by itself.
    let path = if last.contains('.') { path } else { INDEX };
    let Some(files) = files else { return (path == INDEX).then(no_page) };
    let kind = content_type(path)?;
    let plain = files(path)?;
    let (file, encoding) = packed(files, path, asked).unwrap_or((plain, None));
    Some(respond(path, kind, file, encoding, asked))
}

fn no_page() -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], NO_PAGE).into_response()
}

/// The file as it was compressed when the page was built, if the browser takes it so.
fn packed(files: Files, path: &str, asked: &HeaderMap) -> Option<(File, Option<&'static str>)> {
    [("br", "br"), ("gzip", "gz")].into_iter().find_map(|(encoding, ending)| {
        accepts(asked, encoding)
            .then(|| files(&format!("{path}.{ending}")))?
            .map(|file| (file, Some(encoding)))
    })
}

fn respond(
    path: &str,
    kind: &'static str,
    file: File,
    encoding: Option<&'static str>,
    asked: &HeaderMap,
) -> Response {
    let tag = etag(&file);
    let unchanged =
        path != INDEX && names(asked, &header::IF_NONE_MATCH).any(|known| known == tag || known == "*");
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data.into_owned()))
    };
    let headers = response.headers_mut();
    if !unchanged {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keeping(path)));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// How long a browser may keep it (RFC 9111 §5.2, RFC 8246).
fn keeping(path: &str) -> &'static str {
    if path == INDEX {
        "no-store"
    } else if path.starts_with(HASHED) {
        "private, max-age=31536000, immutable"
    } else {
        "no-cache"
    }
}

/// A strong one (RFC 9110 §8.8.3): another compression is another content.
fn etag(file: &File) -> String {
    let mut tag = String::from('"');
    file.hash.iter().take(16).for_each(|byte| tag.push_str(&format!("{byte:02x}")));
    tag.push('"');
    tag
}

/// The parts of a list (RFC 9110 §5.6.1).
fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// RFC 9110 §12.5.3; what is given the weight 0 is not accepted.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    names(headers, &header::ACCEPT_ENCODING).any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let refused =
            weight.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

/// By its ending; `None` for what no page asks for.
fn content_type(path: &str) -> Option<&'static str> {
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "jpg" | "jpeg" => "image/jpeg",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str) -> Option<File> {
        let data: &'static [u8] = match path {
            "index.html" => b"<!doctype html>",
            "assets/app-1a2b.js" => b"start()",
            "assets/app-1a2b.js.br" => b"\x01br",
            "assets/app-1a2b.js.gz" => b"\x01gz",
            "icon.svg" => b"<svg/>",
            _ => return None,
        };
        let mut hash = [0; 32];
        hash[..3].copy_from_slice(&data[..3]);
        Some(File { data: data.into(), hash })
    }

    fn get(path: &str, headers: &[(HeaderName, &'static str)]) -> Option<Response> {
        let asked = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        answer(Some(files), path, &asked.collect())
    }

    fn header_of(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap_or("?"))
    }

    #[test]
    fn screens_are_the_index_and_unknown_files_are_not_there() {
        for path in ["/", "/index.html", "/calls", "/calls/0a/why", "/people/"] {
            let response = get(path, &[]).unwrap();
            assert_eq!(header_of(&response, header::CONTENT_TYPE), "text/html; charset=utf-8", "{path}");
            assert_eq!(header_of(&response, header::CACHE_CONTROL), "no-store", "{path}");
        }
        for path in
            ["/nothing.js", "/assets/app-0000.js", "/../Cargo.toml", "/assets/app-1a2b.js.br", "/.", ""]
        {
            assert!(get(path, &[]).is_none(), "{path}");
        }
    }

    #[test]
    fn hashed_files_are_kept_and_others_are_asked_for_again() {
        let script = get("/assets/app-1a2b.js", &[]).unwrap();
        assert_eq!(header_of(&script, header::CACHE_CONTROL), "private, max-age=31536000, immutable");
        let icon = get("/icon.svg", &[]).unwrap();
        assert_eq!(header_of(&icon, header::CACHE_CONTROL), "no-cache");
        let tag = header_of(&icon, header::ETAG).to_owned();
        assert_eq!(tag, "\"3c737600000000000000000000000000\"");
        let again =
            get("/icon.svg", &[(header::IF_NONE_MATCH, "\"0\", \"3c737600000000000000000000000000\"")])
                .unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(header_of(&again, header::ETAG), tag);
        let other = get("/icon.svg", &[(header::IF_NONE_MATCH, "\"0\"")]).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn what_was_compressed_at_build_time_is_sent_to_those_who_take_it() {
        let encoding = |accept: &'static str| {
            let response = get("/assets/app-1a2b.js", &[(header::ACCEPT_ENCODING, accept)]).unwrap();
            assert_eq!(header_of(&response, header::CONTENT_TYPE), "text/javascript; charset=utf-8");
            assert_eq!(header_of(&response, header::VARY), "accept-encoding");
            header_of(&response, header::CONTENT_ENCODING).to_owned()
        };
        assert_eq!(encoding("gzip, deflate, br, zstd"), "br");
        assert_eq!(encoding("gzip"), "gzip");
        assert_eq!(encoding("br;q=0, gzip;q=0.5"), "gzip");
        assert_eq!(encoding("identity"), "");
        let plain = get("/icon.svg", &[(header::ACCEPT_ENCODING, "br")]).unwrap();
        assert_eq!(header_of(&plain, header::CONTENT_ENCODING), "", "there is none of it");
    }

    #[test]
    fn a_build_without_the_page_says_so() {
        let response = answer(None, "/", &HeaderMap::new()).unwrap();
        assert_eq!(header_of(&response, header::CONTENT_TYPE), "text/html; charset=utf-8");
        assert!(NO_PAGE.contains("./x build"));
        assert!(answer(None, "/assets/app.js", &HeaderMap::new()).is_none());
    }
}
