//! The server that a command asks: one that runs already, or one that the command starts for itself.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::bail;

use crate::cli::InferenceArgs;
use crate::config::{Config, Environment};
use crate::host::{Host, has_own_memory, open_device, resolve_models};

/// Where prompts go.
pub enum Inference {
    /// A server of somebody else; its base address.
    Elsewhere(String),
    /// A server in this process, on a free port of localhost.
    Here(Host),
}

impl Inference {
    /// Starts a server unless one is named.
    pub async fn open(
        args: &InferenceArgs,
        config: &Config,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        if let Some(server) = &args.server {
            return Ok(Self::Elsewhere(base_url(server)?));
        }
        let any_port = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        Ok(Self::Here(start(args.model.as_deref(), any_port, config, environment).await?))
    }

    /// The server that is named, if one is: for work that needs no model. Nothing is started or fetched.
    ///
    /// # Errors
    /// A model is named, which nobody would serve.
    pub fn named(args: &InferenceArgs) -> anyhow::Result<Option<Self>> {
        if args.model.is_some() {
            bail!(
                "no model is asked, so --model means nothing here; --server names a server that counts tokens"
            );
        }
        args.server.as_deref().map(|server| Ok(Self::Elsewhere(base_url(server)?))).transpose()
    }

    /// With the version part, as OpenAI clients take it.
    pub fn base_url(&self) -> String {
        match self {
            Self::Elsewhere(url) => url.clone(),
            Self::Here(host) => format!("{}/v1", host.url()),
        }
    }

    /// Stops the server if it was started here.
    pub async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Elsewhere(_) => Ok(()),
            Self::Here(host) => host.shut_down().await,
        }
    }
}

/// A server in this process with its models loaded.
pub async fn start(
    model: Option<&str>,
    address: SocketAddr,
    config: &Config,
    environment: &Environment,
) -> anyhow::Result<Host> {
    // Models first: a pull may take minutes, and a name that does not exist should fail before a port is taken.
    let registry = environment.registry()?;
    // The device before them: a name without a quantization is meant for it.
    let (backend, models) = tokio::task::block_in_place(|| {
        let backend = open_device(config)?;
        let models = resolve_models(model, config, &registry, has_own_memory(&*backend))?;
        anyhow::Ok((backend, models))
    })?;
    let host = Host::bind(config, address).await?;
    tracing::info!(address = %host.address, "listening");
    host.load(config, backend, models, registry).await?;
    tracing::info!(address = %host.address, "ready");
    Ok(host)
}

/// Takes an address with or without `/v1`.
pub fn base_url(server: &str) -> anyhow::Result<String> {
    let trimmed = server.trim_end_matches('/');
    if !trimmed.starts_with("http://") && !trimmed.starts_with("https://") {
        bail!("{server:?}: an address begins with http:// or https://, such as http://127.0.0.1:8000");
    }
    Ok(if trimmed.ends_with("/v1") { trimmed.to_owned() } else { format!("{trimmed}/v1") })
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn addresses_with_and_without_version() {
        for text in ["http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"] {
            assert_eq!(base_url(text).unwrap(), "http://a:1/v1");
        }
        assert!(base_url("a:1").is_err());
    }
}
