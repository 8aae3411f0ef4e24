//! Names, labels and values as text.

use quarry_runtime::{DraftStats, ModelSnapshot};

use super::*;

fn request() -> RequestStats {
    RequestStats {
        model: "m".into(),
        reason: FinishReason::Length,
        prompt_tokens: 30,
        cached_tokens: 20,
        completion_tokens: 3,
        tokens_max: 3,
        queue_s: 0.1,
        prefill_s: 0.2,
        decode_s: 0.4,
        ttft_s: Some(0.3),
        e2e_s: 0.7,
        inter_token_s: vec![0.2, 0.2],
    }
}

#[test]
fn the_stock_boards_names_and_labels_are_there() {
    let metrics = Metrics::new().unwrap();
    metrics.request(&request());
    metrics.step(&StepStats {
        model: "m".into(),
        rows: 2,
        tokens: 31,
        sampled: 2,
        forced: 1,
        drafts: vec![DraftStats { tokens: 4, accepted: 2 }],
        ..Default::default()
    });
    let sizes = HttpSizes { request_bytes: 120, response_bytes: 30 };
    metrics.http("/v1/chat/completions", "POST", 200, sizes);
    metrics.http_ended("/v1/chat/completions", "POST", 0.7);
    metrics.refused("m", "queue_full", true);
    metrics.refused("m", "model_not_found", false);
    metrics.failed("m", "internal_error");
    let model =
        ModelSnapshot { model: "m".into(), running: 1, prefix_hit_tokens: 20, ..ModelSnapshot::default() };
    let other = ModelSnapshot { model: "n".into(), prefix_hit_tokens: 5, ..ModelSnapshot::default() };
    let snapshot = Snapshot { models: vec![model, other], restarts: 2, ..Default::default() };
    metrics.render(Some(&snapshot), &[]).unwrap();
    let text = metrics.render(Some(&snapshot), &[]).unwrap();
    let labels = "{engine=\"0\",model_name=\"m\"}";
    for line in [
        format!("vllm:num_requests_running{labels} 1"),
        format!("vllm:num_requests_waiting{labels} 0"),
        format!("vllm:kv_cache_usage_perc{labels} 0"),
        format!("vllm:prompt_tokens_total{labels} 30"),
        format!("vllm:prompt_tokens_cached_total{labels} 20"),
        format!("vllm:generation_tokens_total{labels} 3"),
        format!("vllm:prefix_cache_hits_total{labels} 20"),
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"n\"} 5".into(),
        format!("quarry_engine_restarts_total{labels} 2"),
        format!("quarry_forced_tokens_total{labels} 1"),
        format!("vllm:spec_decode_num_drafts_total{labels} 1"),
        format!("vllm:spec_decode_num_draft_tokens_total{labels} 4"),
        format!("vllm:spec_decode_num_accepted_tokens_total{labels} 2"),
        "vllm:spec_decode_num_accepted_tokens_per_pos_total{engine=\"0\",model_name=\"m\",position=\"1\"} 1"
            .into(),
        format!("vllm:e2e_request_latency_seconds_count{labels} 1"),
        format!("vllm:time_to_first_token_seconds_sum{labels} 0.3"),
        format!("vllm:inter_token_latency_seconds_count{labels} 2"),
        format!("vllm:request_queue_time_seconds_count{labels} 1"),
        format!("vllm:request_prefill_time_seconds_count{labels} 1"),
        format!("vllm:request_decode_time_seconds_count{labels} 1"),
        format!("vllm:request_max_num_generation_tokens_count{labels} 1"),
        "vllm:request_success_total{engine=\"0\",finished_reason=\"length\",model_name=\"m\"} 1".into(),
        "vllm:request_prompt_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"50\"} 1".into(),
        "vllm:request_generation_tokens_bucket{engine=\"0\",model_name=\"m\",le=\"2\"} 0".into(),
        "http_requests_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"2xx\"} 1".into(),
        "quarry_http_responses_total{handler=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1"
            .into(),
        "http_request_duration_seconds_sum{handler=\"/v1/chat/completions\",method=\"POST\"} 0.7".into(),
        "http_request_duration_highr_seconds_bucket{le=\"0.75\"} 1".into(),
        "http_request_size_bytes_sum{handler=\"/v1/chat/completions\"} 120".into(),
        "http_response_size_bytes_count{handler=\"/v1/chat/completions\"} 1".into(),
        "vllm:admission_rejections_total{engine=\"0\",model_name=\"m\",reason=\"queue_full\"} 1".into(),
        "quarry_requests_refused_total{model_name=\"m\",reason=\"model_not_found\"} 1".into(),
        "quarry_requests_failed_total{model_name=\"m\",reason=\"internal_error\"} 1".into(),
        "vllm:prompt_tokens_by_source_total{engine=\"0\",model_name=\"m\",source=\"local_cache_hit\"} 20"
            .into(),
        "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"m\",reason=\"capacity\"} 0".into(),
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
    }
}

#[test]
fn without_an_engine_nothing_is_claimed() {
    let text = Metrics::new().unwrap().render(None, &[]).unwrap();
    assert!(!text.contains("num_requests_running{"), "{text}");
}

#[test]
fn llamacpp_names_are_there_where_they_are_wanted() {
    let text = |metrics: Metrics| {
        metrics.request(&request());
        metrics.step(&StepStats { model: "m".into(), rows: 2, tokens: 31, ..Default::default() });
        metrics.step(&StepStats { model: "m".into(), rows: 4, tokens: 4, ..Default::default() });
        let model = ModelSnapshot { model: "m".into(), running: 3, waiting: 2, ..ModelSnapshot::default() };
        metrics.render(Some(&Snapshot { models: vec![model], ..Default::default() }), &[]).unwrap()
    };
    assert!(!text(Metrics::new().unwrap()).contains("llamacpp:"));
    let text = text(Metrics::with_llamacpp_names().unwrap());
    for line in [
        "llamacpp:prompt_tokens_total{model_name=\"m\"} 30",
        "llamacpp:prompt_tokens_cached_total{model_name=\"m\"} 20",
        "llamacpp:prompt_seconds_total{model_name=\"m\"} 0.2",
        "llamacpp:tokens_predicted_total{model_name=\"m\"} 3",
        "llamacpp:tokens_predicted_seconds_total{model_name=\"m\"} 0.4",
        "llamacpp:n_decode_total{model_name=\"m\"} 2",
        "llamacpp:n_tokens_max{model_name=\"m\"} 33",
        "llamacpp:n_busy_slots_per_decode{model_name=\"m\"} 3",
        "llamacpp:requests_processing{model_name=\"m\"} 3",
        "llamacpp:requests_deferred{model_name=\"m\"} 2",
        "llamacpp:prompt_tokens_seconds{model_name=\"m\"} 50",
        "llamacpp:predicted_tokens_seconds{model_name=\"m\"} 7.5",
    ] {
        assert!(text.lines().any(|l| l == line), "no line {line} in\n{text}");
    }
}

#[test]
fn devices_tell_what_they_know_and_no_more() {
    let metrics = Metrics::new().unwrap();
    let figures = DeviceFigures {
        name: "card".into(),
        uuid: "GPU-1".into(),
        temperature_celsius: Some(61.0),
        memory_used_bytes: Some(1 << 28),
        ..DeviceFigures::default()
    };
    let text = metrics.render(None, &[figures]).unwrap();
    let labels = "{device=\"card\",uuid=\"GPU-1\"}";
    for line in [
        format!("quarry_device_temperature_celsius{labels} 61"),
        format!("quarry_device_memory_used_bytes{labels} 268435456"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("quarry_device_power_watts"), "what is not told is not there");
    let text = metrics.render(None, &[]).unwrap();
    assert!(!text.contains("quarry_device_temperature"), "nor what is told no more");
}
