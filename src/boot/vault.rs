//! The API keeps its credentials in the store.

use futures_util::future::BoxFuture;

use crate::api::Vault;
use crate::auth::{SessionRecord, TokenRecord};
use crate::daemon::Answer;
use crate::store::Store;

/// The store, as far as the API may use it.
pub(super) struct StoreVault(pub Store);

impl Vault for StoreVault {
    fn put_token(&self, token: TokenRecord) -> BoxFuture<'_, Answer<()>> {
        Box::pin(async move { Ok(self.0.put_token(token).await?) })
    }

    fn put_sessions(&self, sessions: Vec<SessionRecord>) -> BoxFuture<'_, Answer<()>> {
        Box::pin(async move { Ok(self.0.put_sessions(sessions).await?) })
    }
}
