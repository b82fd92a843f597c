use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{events, page, routes, strangers, volunteer};

/// The description of the whole API (OpenAPI 3.1); the page's TypeScript types are made from it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tandem local API",
        description = "The API of a Tandem node, for programs of the same user on the same machine. Send the content of \
                       the file `api-token` of the data folder as a bearer token. Every failure has the body `Failure`."
    ),
    paths(
        routes::status,
        routes::identity,
        routes::words,
        routes::contacts,
        routes::add_contact,
        routes::change_contact,
        routes::remove_contact,
        routes::calls,
        routes::place_call,
        routes::answer_call,
        routes::attach_sound,
        routes::detach_sound,
        routes::decline_call,
        routes::hang_up_call,
        routes::why,
        routes::echo,
        routes::network,
        routes::devices,
        routes::add_device,
        routes::rename_device,
        routes::revoke_device,
        strangers::invitations,
        strangers::invite,
        strangers::revoke,
        strangers::requests,
        strangers::accept,
        strangers::decline,
        strangers::clear,
        strangers::leave,
        strangers::sent,
        strangers::blocks,
        strangers::block,
        strangers::unblock,
        routes::connections,
        volunteer::view,
        volunteer::withdraw,
        volunteer::accept,
        volunteer::set_caps,
        volunteer::ledger,
        page::link,
        page::session,
        routes::shutdown,
        routes::metrics_text,
        routes::openapi_document,
        events::events,
    ),
    components(schemas(
        tandem_api::EventsHello,
        tandem_api::Ready,
        tandem_api::JoinOffer,
        tandem_api::CallReport,
        tandem_api::ConfigView,
        tandem_api::DoctorReport
    )),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document as JSON.
///
/// # Panics
/// Never: it is plain data.
#[must_use]
pub fn openapi_json() -> String {
    Document::openapi().to_pretty_json().expect("invariant: plain data is written as JSON")
}
