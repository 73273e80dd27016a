//! Whether the daemon lives, is ready, how it does, and what it offers.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::error::json;
use super::request::Request;
use crate::daemon::{Answer, Status};
use crate::model::TimeMs;

/// The description of every route; a test holds it against the table.
const OPENAPI: &str = include_str!("openapi.json");

/// GET `/healthz`
pub(super) async fn alive(_request: Request) -> Answer<Response> {
    Ok(Response::new(Body::empty()))
}

/// GET `/readyz`
pub(super) async fn ready(request: Request) -> Answer<Response> {
    request.api.handle.ready().await?;
    Ok(json(StatusCode::OK, &serde_json::json!({ "ready": true })))
}

/// GET `/openapi.json`
pub(super) async fn openapi(_request: Request) -> Answer<Response> {
    Ok(text(OPENAPI.to_owned(), "application/json"))
}

/// GET `/metrics`, in the Prometheus text format.
pub(super) async fn metrics(request: Request) -> Answer<Response> {
    let status = request.api.handle.status();
    Ok(text(gauges(&status, TimeMs::now()), "text/plain; version=0.0.4; charset=utf-8"))
}

fn gauges(status: &Status, now: TimeMs) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, rows: &[(String, i64)]| {
        let _ = writeln!(out, "# HELP kas_{name} {help}\n# TYPE kas_{name} gauge");
        for (labels, value) in rows {
            let _ = writeln!(out, "kas_{name}{labels} {value}");
        }
    };
    let build =
        format!("{{version=\"{}\",backend=\"{}\"}}", env!("CARGO_PKG_VERSION"), status.backend.word());
    let uptime = (now.0 - status.started_at.0).max(0) / 1000;
    let running = status
        .projects
        .iter()
        .map(|project| {
            (format!("{{project=\"{}\"}}", project.id), i64::try_from(project.running).unwrap_or(0))
        })
        .collect::<Vec<_>>();
    let projects = i64::try_from(status.projects.len()).unwrap_or(i64::MAX);
    gauge("build_info", "What runs.", &[(build, 1)]);
    gauge("uptime_seconds", "Since the daemon started.", &[(String::new(), uptime)]);
    gauge("projects", "Registered projects.", &[(String::new(), projects)]);
    gauge("tasks_running", "Instances that are starting or running.", &running);
    out
}

fn text(body: String, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
