//! The paid endpoint: the same question in the dialect of GPT-5, paid for before it is sent.

use std::time::Duration;

use chrono::{DateTime, Utc};
use quarry_client::retry::RetryPolicy;
use quarry_client::{Client, ClientOptions};
use quarry_openapi::{ChatRequest, ResponseFormat};
use serde_json::Value;

use crate::chat::{ChatError, ChatErrorKind};
use crate::config::CloudConfig;
use crate::error::AgentError;
use crate::route::CloudState;
use crate::store::Store;

/// The paid endpoint's client. It never sends a request again by itself: each is paid for, so each is reserved for.
///
/// # Errors
/// An address or key that no client can use.
pub fn client(config: &CloudConfig) -> Result<Client, AgentError> {
    let options = ClientOptions {
        api_key: config.api_key.clone(),
        retry: RetryPolicy::never(),
        ..ClientOptions::new(config.base_url.clone())
    };
    Ok(Client::new(options)?)
}

/// The pause before a paid request is sent again, after `tries` of them; `None` where it is not.
pub fn pause(tries: u32, error: &ChatError) -> Option<Duration> {
    if error.kind != ChatErrorKind::Unavailable {
        return None;
    }
    RetryPolicy::default().pause(tries, error.retry_after, 0.0)
}

/// What a request may cost at most: its prompt as counted or bounded, and the longest answer.
pub fn cost_usd_max(config: &CloudConfig, prompt_tokens: u32) -> Option<f64> {
    let price = config.prices.get(&config.model)?;
    Some(price.cost_usd(prompt_tokens, config.completion_tokens_max))
}

/// Whether the month has money for this prompt.
pub async fn state(
    config: &CloudConfig,
    is_there: bool,
    prompt_tokens: u32,
    store: &Store,
    now: DateTime<Utc>,
) -> Result<CloudState, AgentError> {
    let Some(cost) = cost_usd_max(config, prompt_tokens).filter(|_| config.enabled && is_there) else {
        return Ok(CloudState::Off);
    };
    let spent_usd = store.month_cost_usd(now).await?;
    let budget_usd = config.budget_usd_month;
    if spent_usd + cost > budget_usd {
        return Ok(CloudState::OverBudget { spent_usd, budget_usd });
    }
    Ok(CloudState::Within)
}

/// The local request as GPT-5 takes it: `max_completion_tokens`, no temperature, `reasoning_effort`, and a schema
/// without the keywords that strict mode does not know.
pub fn request(config: &CloudConfig, local: &ChatRequest) -> ChatRequest {
    let mut response_format = local.response_format.clone();
    if let Some(ResponseFormat::JsonSchema { json_schema }) = &mut response_format {
        json_schema.strict = Some(true);
        strip_lengths(&mut json_schema.schema);
    }
    ChatRequest {
        model: config.model.clone(),
        messages: local.messages.clone(),
        max_completion_tokens: Some(config.completion_tokens_max),
        reasoning_effort: Some(config.reasoning_effort.clone()),
        response_format,
        ..ChatRequest::default()
    }
}

fn strip_lengths(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            // `properties` holds names, not keywords: a field may be called `maxLength`.
            for key in ["minLength", "maxLength"] {
                if map.get(key).is_some_and(Value::is_number) {
                    map.remove(key);
                }
            }
            map.values_mut().for_each(strip_lengths);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_lengths),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quarry_openapi::{ChatMessage, JsonSchemaFormat};
    use serde_json::json;

    #[test]
    fn the_dialect_of_gpt_5() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}});
        let local = ChatRequest {
            model: "local".into(),
            messages: vec![ChatMessage::user("x")],
            temperature: Some(0.0),
            max_tokens: Some(10),
            response_format: Some(ResponseFormat::JsonSchema {
                json_schema: JsonSchemaFormat {
                    name: "posting".into(),
                    description: None,
                    schema,
                    strict: None,
                },
            }),
            ..ChatRequest::default()
        };
        let sent = serde_json::to_value(request(&CloudConfig::default(), &local)).unwrap();
        assert_eq!(sent["model"], "gpt-5");
        assert_eq!(sent["max_completion_tokens"], 4000);
        assert_eq!(sent["reasoning_effort"], "low");
        assert!(sent.get("temperature").is_none() && sent.get("max_tokens").is_none());
        assert_eq!(sent["response_format"]["json_schema"]["strict"], true);
        let a = &sent["response_format"]["json_schema"]["schema"]["properties"]["a"];
        assert_eq!(*a, json!({"type": "string"}));
    }

    #[tokio::test]
    async fn the_state_follows_switch_and_budget() {
        let store = Store::in_memory().await.unwrap();
        let now = Utc::now();
        let mut config = CloudConfig::default();
        assert_eq!(state(&config, true, 1000, &store, now).await.unwrap(), CloudState::Off);
        config.enabled = true;
        assert_eq!(state(&config, false, 1000, &store, now).await.unwrap(), CloudState::Off);
        assert_eq!(state(&config, true, 1000, &store, now).await.unwrap(), CloudState::Within);
        config.budget_usd_month = 0.01;
        assert!(matches!(
            state(&config, true, 1000, &store, now).await.unwrap(),
            CloudState::OverBudget { .. }
        ));
    }
}
