//! How the page gets in, and how nobody else does.

use tandem_api::{Identity, PageLink, PageSession};
use tandem_node::api::HAS_PAGE;

use super::api::{Fixture, ask, ask_whole, code, fixture};

impl Fixture {
    async fn link(&self) -> PageLink {
        let (status, body) = self.send("POST", "/api/page/link", "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// As the page does: without a token, with its origin.
    async fn trade(&self, code: &str) -> (u16, String) {
        let origin = format!("http://{}", self.address);
        self.trade_with(code, &[("Origin", &origin), ("Sec-Fetch-Site", "same-origin")]).await
    }

    async fn trade_with(&self, code: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let headers = [headers, &[("Content-Type", "application/json")]].concat();
        let body = format!("{{\"code\":\"{code}\"}}");
        ask(self.address, "POST", "/api/page/session", &headers, &body).await
    }
}

fn code_of(link: &PageLink) -> String {
    link.url.split_once("/#code=").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_link_opens_the_page_once() {
    let fixture = fixture().await;
    let link = fixture.link().await;
    assert!(link.url.starts_with(&format!("http://{}/#code=", fixture.address)), "{}", link.url);
    assert!(!link.url.contains(&fixture.token), "links stay in histories");
    assert_eq!(link.in_build, HAS_PAGE);

    let code_in_it = code_of(&link);
    let (status, body) = fixture.trade(&code_in_it).await;
    assert_eq!(status, 200, "{body}");
    let session: PageSession = serde_json::from_str(&body).unwrap();
    let bearer = format!("Bearer {}", session.token);
    let (status, body) =
        ask(fixture.address, "GET", "/api/identity", &[("Authorization", &bearer)], "").await;
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Identity>(&body).is_ok());

    let (status, body) = fixture.trade(&code_in_it).await;
    assert_eq!((status, code(&body).as_str()), (401, "T1317"), "used twice");
    let link = fixture.server.page_link();
    assert_eq!(fixture.trade(&code_of(&link)).await.0, 200, "the node itself makes links too");
}

#[tokio::test]
async fn making_a_link_needs_the_token_and_guessing_one_gets_nowhere() {
    let fixture = fixture().await;
    let (status, body) = ask(fixture.address, "POST", "/api/page/link", &[], "").await;
    assert_eq!((status, code(&body).as_str()), (401, "T1308"));

    let good = code_of(&fixture.link().await);
    assert_eq!(good.len(), 32);
    // Faster than a window of guesses runs out, or it begins anew: in the end one is not looked at.
    let mut refused = None;
    for guess in 0..2_000 {
        let (status, body) = fixture.trade(&format!("{guess:032x}")).await;
        if status == 429 {
            refused = Some(code(&body));
            break;
        }
        assert_eq!((status, code(&body).as_str()), (401, "T1317"));
    }
    assert_eq!(refused.as_deref(), Some("T1318"));
    // Who has a good one only has to wait.
    let status = loop {
        match fixture.trade(&good).await.0 {
            429 => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            status => break status,
        }
    };
    assert_eq!(status, 200);
}

#[tokio::test]
async fn what_was_stolen_is_worth_nothing_after_a_restart() {
    let before = fixture().await;
    let stolen_link = code_of(&before.link().await);
    let (_, body) = before.trade(&code_of(&before.link().await)).await;
    let stolen = serde_json::from_str::<PageSession>(&body).unwrap().token;
    before.server.stop().await;

    let after = fixture().await;
    let bearer = format!("Bearer {stolen}");
    let (status, body) = ask(after.address, "GET", "/api/identity", &[("Authorization", &bearer)], "").await;
    assert_eq!((status, code(&body).as_str()), (401, "T1308"));
    assert_eq!(after.trade(&stolen_link).await.0, 401);
}

#[tokio::test]
async fn pages_of_other_sites_and_other_names_of_this_machine_get_nothing() {
    let fixture = fixture().await;
    let port = fixture.address.port();
    let good = code_of(&fixture.link().await);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", &format!("https://127.0.0.1:{port}")]
    {
        let (status, body) = fixture.trade_with(&good, &[("Origin", origin)]).await;
        assert_eq!((status, code(&body).as_str()), (403, "T1309"), "{origin}");
    }
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1"] {
        let (status, body) = fixture.trade_with(&good, &[("Host", host)]).await;
        assert_eq!((status, code(&body).as_str()), (403, "T1309"), "{host}");
        let (status, _) = ask(fixture.address, "GET", "/", &[("Host", host)], "").await;
        assert_eq!(status, 403, "the page itself neither: {host}");
    }
    // A page of another port is of the same site, and still not this one.
    for site in ["cross-site", "same-site"] {
        let other = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "script")];
        for path in ["/", "/assets/index.js", "/api/openapi.json"] {
            assert_eq!(ask(fixture.address, "GET", path, &other, "").await.0, 403, "{site} {path}");
        }
        let framed = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")];
        assert_eq!(ask(fixture.address, "GET", "/", &framed, "").await.0, 403, "{site}");
        let link = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];
        assert_eq!(
            ask(fixture.address, "GET", "/", &link, "").await.0,
            200,
            "whoever follows a link: {site}"
        );
    }
    assert_eq!(fixture.trade(&good).await.0, 200, "and the code was not used up");
}

#[tokio::test]
async fn everything_served_carries_the_strict_headers() {
    let fixture = fixture().await;
    for (path, status) in [("/", 200), ("/people/bob", 200), ("/nothing.js", 404), ("/api/openapi.json", 200)]
    {
        let (found, head, _) = ask_whole(fixture.address, "GET", path, &[], "").await;
        assert_eq!(found, status, "{path}");
        for expected in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "permissions-policy: microphone=(self), camera=(self)",
            "cache-control: no-store",
        ] {
            assert!(head.contains(expected), "{path}: {expected}\n{head}");
        }
        assert!(!head.contains("unsafe-inline") && !head.contains("access-control-allow"), "{head}");
    }
    let (_, _, page) = ask_whole(fixture.address, "GET", "/", &[], "").await;
    if HAS_PAGE {
        assert!(page.contains("/assets/"), "{page}");
        assert!(!page.contains("<style") && !page.contains("<script>"), "the policy would stop it: {page}");
    } else {
        assert!(page.contains("./x build"), "{page}");
    }
    let (status, _) = ask(fixture.address, "POST", "/", &[], "").await;
    assert_eq!(status, 404);
}
