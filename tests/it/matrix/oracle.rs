//! What must become of a request, by the contract alone.

use super::cell::{Cell, ContentType, Holder, Host, Origin, Site};
use kas::api::Surface;
use kas::model::Scope;

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: it has nothing to tell.
    Open,
    /// Nothing: it is a file of the page.
    Page,
    /// A ticket in the body.
    Ticket,
    /// Any credential, a link to one task too.
    Any,
    /// A credential of at least this scope, for everything.
    Scope(Scope),
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 421
    Misdirected,
    /// 403, for where it comes from.
    Foreign,
    /// 401
    Unauthorized,
    /// 400, for what it says its body is.
    NotJson,
    /// 403, for what its credential may do.
    Beyond,
    /// It is let in; what then becomes of it is the handler's business.
    In,
}

/// `spec/protocol.md` §6 in its own order, §1 for the control socket; where a page was before, `reference/reliability.md` S1 to S3.
pub(super) fn oracle(needs: Needs, change: bool, served: bool, cell: &Cell) -> Outcome {
    if cell.surface == Surface::Control {
        return Outcome::In;
    }
    if !matches!(cell.host, Host::Address | Host::Name | Host::Six) {
        return Outcome::Misdirected;
    }
    let acts = change || cell.upgrade;
    let browser = cell.credential.sends_cookie() && !cell.credential.sends_authorization();
    let from_us = cell.origin == Origin::Own || cell.origin == Origin::Absent && !(browser && acts);
    let asked_by_us = match cell.site {
        Site::Absent | Site::SameOrigin => true,
        Site::Typed => !acts,
        Site::Link => needs == Needs::Page,
        Site::Sibling | Site::Elsewhere | Site::Twice => false,
    };
    let holder = cell.credential.opens(cell.upgrade);
    let asks = matches!(needs, Needs::Any | Needs::Scope(_));
    match (needs, holder) {
        _ if !from_us || !asked_by_us => Outcome::Foreign,
        _ if asks && holder == Holder::Nobody => Outcome::Unauthorized,
        // What is not there is told before anything is said of the body.
        _ if change && served && !matches!(cell.content, ContentType::Json | ContentType::JsonUtf8) => {
            Outcome::NotJson
        }
        (Needs::Scope(_), Holder::Link) => Outcome::Beyond,
        (Needs::Scope(least), Holder::Scope(has)) if has < least => Outcome::Beyond,
        (Needs::Open | Needs::Page | Needs::Ticket | Needs::Any | Needs::Scope(_), _) => Outcome::In,
    }
}
