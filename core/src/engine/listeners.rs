//! Where others may ask: the admin listener, and the one for webhooks.

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{Engine, Reload, webhooks};
use crate::admin;
use crate::config::Config;
use crate::error::Result;

/// The addresses, taken.
pub(super) struct Listeners {
    admin: Option<TcpListener>,
    webhooks: Option<TcpListener>,
}

impl Listeners {
    /// Takes the addresses, before anything runs that would have to end if one is in use.
    pub(super) async fn bind(config: &Config, is_survey: bool) -> Result<Self> {
        let admin = &config.admin;
        let webhooks = &config.webhooks;
        // A survey looks beside the process that listens for webhooks.
        let hears = webhooks.public_url.is_some() && !is_survey;
        Ok(Self {
            admin: if admin.enabled {
                Some(admin::bind(admin.listen).await?)
            } else {
                None
            },
            webhooks: if hears {
                Some(webhooks::bind(webhooks.listen).await?)
            } else {
                None
            },
        })
    }
}

impl Engine {
    /// Answers there from now on.
    pub(super) fn listen(
        &mut self,
        listeners: Listeners,
        reload: mpsc::Sender<Reload>,
    ) -> Result<()> {
        if let Some(listener) = listeners.admin {
            self.admin = listener.local_addr().ok();
            self.serve(listener, reload)?;
        }
        if let Some(listener) = listeners.webhooks {
            let (webhooks, stop) = (self.own.webhooks.clone(), self.signals.sources.clone());
            let served = webhooks.serve(listener, self.metrics.clone(), stop);
            self.servers.spawn(served);
        }
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener, reload: mpsc::Sender<Reload>) -> Result<()> {
        let folder = &self.config.journal.path;
        let control = admin::Control {
            token: admin::token(folder)?,
            replayer: self.replayer.clone(),
            backfiller: self.backfiller.clone(),
            reload,
            hosts: self.config.admin.hosts.as_slice().into(),
        };
        admin::announce(&listener, folder)?;
        self.servers.spawn(admin::serve(
            listener,
            self.journal.clone(),
            self.metrics.clone(),
            self.own.clock.clone(),
            control,
            folder.clone(),
            self.signals.stop.clone(),
        ));
        Ok(())
    }
}
