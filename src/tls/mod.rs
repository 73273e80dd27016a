//! TLS towards browsers, with the operator's own certificate: read, checked, and put in place of the one before without a restart.

mod certificate;
mod error;
mod serving;

pub use certificate::Certificate;
pub use error::Error;
pub use serving::{Opened, Tls};
