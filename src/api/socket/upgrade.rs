//! From a request to a WebSocket.

use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;

use super::connection::Connection;
use super::desk::ProjectDesk;
use crate::api::error::invalid;
use crate::api::request::Request;
use crate::api::seats::Seat;
use crate::daemon::Answer;

/// The sub-protocol spoken here.
const PROTOCOL: &str = "kas.v1";
/// The most bytes of a frame from the client.
const FRAME_LIMIT: usize = 64 << 10;

/// GET `/projects/:id/tasks/socket`
pub(in crate::api) async fn upgrade(request: Request) -> Answer<Response> {
    let project = request.project()?;
    let actor = request.actor()?.clone();
    request.api.handle.project(&project).await?;
    let Request { api, mut parts, .. } = request;
    // The seat is what the cap on connections counts; the socket keeps it after HTTP is done with the connection.
    let seat = parts.extensions.get::<Seat>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|refused| invalid(refused.body_text()).reason("upgrade"))?;
    let upgrade = configured(upgrade);
    if upgrade.selected_protocol().is_none() {
        return Err(invalid(format!("offer the sub-protocol {PROTOCOL}")).reason("subprotocol"));
    }
    let (scope, credential) = (actor.scope, actor.credential.clone());
    let desk = ProjectDesk::new(api.handle, actor, project);
    let door = api.door;
    let useless = Box::pin(async move { door.until_useless(credential).await });
    let connection = Connection::new(desk, scope, api.owners, api.metrics, api.closing, useless);
    Ok(upgrade.on_upgrade(async move |socket| {
        connection.run(socket).await;
        drop(seat);
    }))
}

/// The limits of a connection. What does not fit the write buffer waits in the kernel or is not read from its channel yet.
pub(super) fn configured(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(FRAME_LIMIT)
        .max_frame_size(FRAME_LIMIT)
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
}
