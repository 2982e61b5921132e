//! How a server is reached.

use std::sync::Arc;

use crate::remote::connect::{Trust, connect};

use super::link::{Connector, Missed};

/// Connects as addresses say.
pub(super) fn connector(trust: &Trust) -> Connector {
    let trust = trust.clone();
    Arc::new(move |address, within| {
        let trust = trust.clone();
        Box::pin(async move {
            let reached = connect(&address, &trust, within).await;
            reached.map_err(|trouble| {
                let (may_come, is_busy) = (trouble.may_pass(), trouble.is_busy());
                Missed { may_come, is_busy, why: trouble.message }
            })
        })
    })
}
