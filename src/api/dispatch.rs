//! From a request to an answer: the door, the table, the handler.

use std::panic::AssertUnwindSafe;

use axum::body::{Body, HttpBody as _};
use axum::http::request::Parts;
use axum::http::{self, HeaderValue, Method, header};
use axum::response::Response;
use futures_util::FutureExt as _;

use super::request::Request;
use super::route::{Access, Found, Surface};
use super::seats::{self, Seat};
use super::state::Api;
use super::{door, error, headers, page, route};
use crate::auth;
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{Actor, TimeMs};

/// Answers any request that came in on `surface`: everything the API does begins here.
pub async fn answer(api: &Api, surface: Surface, request: http::Request<Body>) -> Response {
    api.metrics.http_requests.inc();
    let api_path = route::is_api(request.uri().path());
    let answering = AssertUnwindSafe(dispatch(api, surface, request)).catch_unwind();
    let mut response = match answering.await {
        Ok(answer) => answer.unwrap_or_else(|refusal| error::refusal(&refusal)),
        Err(_) => {
            api.metrics.panics.inc();
            error::refusal(&Refusal::new(Code::Internal, "this request met a bug of kas; its log says more"))
        }
    };
    headers::protect(response.headers_mut(), api_path);
    response
}

async fn dispatch(api: &Api, surface: Surface, request: http::Request<Body>) -> Answer<Response> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let found = route::find(surface, &parts.method, path);
    let has_body = !body.is_end_stream();
    let actor = match admit(api, surface, (&parts, has_body), &found) {
        Ok(actor) => actor,
        Err(refused) => {
            api.metrics.refusals.inc();
            if refused == auth::Refusal::Wrong {
                api.door.failed(seats::peer(&parts)).await;
            }
            return Err(door::refusal(refused));
        }
    };
    if actor.is_some() && !parts.extensions.get::<Seat>().is_none_or(Seat::keep) {
        return Err(seats::pushed_out());
    }
    match found {
        Found::Route(route, params) => {
            check_scope(route.access, actor.as_ref())?;
            (route.run)(Request { api: api.clone(), surface, actor, params, parts, body }).await
        }
        Found::WrongMethod(allow) => Ok(wrong_method(&allow)),
        Found::Unknown if route::is_api(path) => Err(error::not_found("there is no such address")),
        Found::Unknown if matches!(parts.method, Method::GET | Method::HEAD) => page::show(&parts),
        Found::Unknown => Ok(wrong_method(&["GET"])),
    }
}

/// Lets a request in. What the table does not open, and every address it does not know, needs a credential;
/// only the page's files, which hold no data, do with the right site.
fn admit(
    api: &Api,
    surface: Surface,
    (parts, has_body): (&Parts, bool),
    found: &Found,
) -> Result<Option<Actor>, auth::Refusal> {
    let reading = matches!(parts.method, Method::GET | Method::HEAD);
    let access = match found {
        Found::Route(route, _) => match route.access {
            Access::Open => auth::Access::Open,
            Access::Ticket => auth::Access::Exchange,
            Access::Shared | Access::Needs(_) => auth::Access::Credential,
        },
        Found::Unknown if reading && !route::is_api(parts.uri.path()) => auth::Access::Page,
        Found::Unknown | Found::WrongMethod(_) => auth::Access::Absent,
    };
    api.door.admit(surface, (parts, has_body), access, TimeMs::now())
}

fn check_scope(access: Access, actor: Option<&Actor>) -> Answer<()> {
    let needs = match access {
        Access::Open | Access::Ticket => return Ok(()),
        Access::Shared => None,
        Access::Needs(scope) => Some(scope),
    };
    match (actor, needs) {
        (Some(Actor { only: Some(_), .. }), Some(_)) => {
            let message = "this credential shows one task and nothing else";
            Err(Refusal::new(Code::Forbidden, message).reason("shared"))
        }
        (Some(actor), Some(scope)) if actor.scope < scope => {
            let message = format!("this needs the scope {}, yours is {}", scope.word(), actor.scope.word());
            Err(Refusal::new(Code::Forbidden, message).reason("scope").detail("needs", scope.word()))
        }
        (Some(_), _) => Ok(()),
        (None, _) => Err(Refusal::new(Code::Unauthorized, "a credential is needed")),
    }
}

fn wrong_method(allow: &[&str]) -> Response {
    let allow = allow.join(", ").replace("GET", "GET, HEAD");
    let refusal = Refusal::new(Code::MethodNotAllowed, format!("allowed here: {allow}"));
    let mut response = error::refusal(&refusal);
    if let Ok(value) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}
