//! How a server is reached.

use std::path::Path;
use std::sync::Arc;

use crate::remote::connect::connect;

use super::link::{Connector, Missed};

/// Connects as addresses say, with the certificates in `keys`.
pub(super) fn connector(keys: Option<&Path>) -> Connector {
    let keys = keys.map(Path::to_owned);
    Arc::new(move |address, within| {
        let keys = keys.clone();
        Box::pin(async move {
            let reached = connect(&address, keys.as_deref(), within).await;
            reached.map_err(|trouble| Missed { may_come: trouble.may_pass(), why: trouble.message })
        })
    })
}
