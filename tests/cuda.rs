//! The program with the CUDA back end in it: without a driver, with a driver that finds no device, and on the fake driver,
//! whose kernels run on the processor.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use quarry_formats::safetensors::StoredType;
use quarry_model::backend::{ActivateOptions, Backend as _, ModelFiles};
use quarry_model::executor::{Batch, Executor, Row, StepResult};
use quarry_model::ids::BlockId;
use quarry_model::request::SamplingParams;
use quarry_model::sampler::SampleRow;
use quarry_reference::ReferenceBackend;
use quarry_tiny::{HubWeights, TensorType, TinyModel};
use serde_json::json;
use support::Server;

/// The folder with the fake driver and its kernels, built once.
fn fake_driver() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fake-cuda");
        let ended = Command::new("bash").arg("server/cuda/tests/fake-cuda.sh").arg(&out).output();
        let ended = ended.expect("bash is there");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        out
    })
}

fn config(folder: &Path, device: &str) -> PathBuf {
    configured(folder, &settings(device))
}

/// For a tiny model, which is written.
fn configured(folder: &Path, settings: &str) -> PathBuf {
    let model = folder.join("tiny.gguf");
    TinyModel::qwen3().write(&model, TensorType::Q4K).unwrap();
    config_of(folder, &model, settings)
}

/// Small ones.
fn settings(device: &str) -> String {
    format!("{{device: \"{device}\", kv_cache: 64MiB, step_tokens_max: 64, step_rows_max: 8}}")
}

fn config_of(folder: &Path, model: &Path, settings: &str) -> PathBuf {
    let config = folder.join("quarry.yaml");
    let text = format!("models:\n  primary: {{name: {}}}\nserver: {settings}\n", model.display());
    std::fs::write(&config, text).unwrap();
    config
}

fn line(server: &Server, message: &str) -> serde_json::Value {
    let found = server.log_lines().into_iter().find(|line| line["message"] == message);
    found.unwrap_or_else(|| panic!("no {message:?} in {:?}", server.log_lines()))
}

#[test]
fn without_a_driver_or_a_device_the_processor_computes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "auto");
    let path = fake_driver().to_str().unwrap();
    for (variables, why) in [
        (&[][..], "no CUDA driver is installed"),
        (&[("LD_LIBRARY_PATH", path), ("FAKE_CUDA_DEVICES", "0")][..], "finds no device"),
    ] {
        let mut server = Server::configured(&config, &[], variables);
        server.wait("is ready", |server| server.get("/ready").status == 200);
        let said = line(&server, "computing on the CPU");
        assert!(said["why"].as_str().unwrap().contains(why), "{said}");
        assert_eq!(server.chat(json!({"model": "tiny"})).status, 200);
    }
}

#[test]
fn a_device_that_is_asked_for_and_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "cuda");
    let ended = Command::new(env!("CARGO_BIN_EXE_quarry"))
        .args(["serve", "--port", "0", "--config"])
        .arg(&config)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("no CUDA device can be used"), "{said}");
}

#[test]
fn a_tiny_model_answers_on_the_fake_driver() {
    let folder = tempfile::tempdir().unwrap();
    let server = on_the_fake_driver(folder.path(), &settings("cuda"), &[]);
    line(&server, "computing on a CUDA device");
    let asked = json!({"model": "tiny", "max_completion_tokens": 12});
    let first = server.chat(asked.clone());
    assert_eq!(first.status, 200, "{}", first.body);
    // The second comes from the prefix cache, and says the same.
    let again = server.chat(asked).json();
    assert_eq!(again["choices"][0]["message"]["content"], first.json()["choices"][0]["message"]["content"]);
    let state = server.get("/admin/state").json();
    assert!(state["memory"]["device_bytes_max"].as_u64().unwrap() > 0, "{state}");
}

/// What the reference says next, and by how much more likely than the second best, as a share of the largest logit.
struct Reference {
    executor: Box<dyn Executor>,
    vocab: usize,
}

impl Reference {
    fn open(model: &Path) -> Self {
        let files = ModelFiles::open(model).unwrap();
        let mut backend = ReferenceBackend;
        let options = ActivateOptions { block_tokens: 16, batch_tokens_max: 256, batch_rows_max: 1 };
        let warm = backend.loader().warm(&files, &mut |_| ()).unwrap();
        let bytes = backend.cost(&files.spec, &files, &options).block_bytes;
        let arena = backend.arena(bytes, 16).unwrap();
        let kv = backend.kv_blocks(&files.spec, &arena, 16).unwrap();
        let executor = backend.activate(&warm, &*kv, &options).unwrap();
        Self { executor, vocab: files.spec.vocab }
    }

    fn next(&mut self, tokens: &[u32]) -> (u32, f32) {
        let blocks: Vec<BlockId> = (0..16).map(BlockId).collect();
        let wanted = [tokens.len() - 1];
        let row = Row { tokens, first_position: 0, blocks: &blocks, wanted: &wanted };
        let ticket = self.executor.submit(&Batch::new(&[row])).unwrap();
        let params = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let mut out = StepResult { keep_logits: true, ..StepResult::default() };
        self.executor.finish(ticket, &[SampleRow::new(&params)], &mut out).unwrap();
        let mut order: Vec<usize> = (0..self.vocab).collect();
        order.sort_by(|a, b| out.logits[*b].total_cmp(&out.logits[*a]));
        let largest = out.logits.iter().fold(0f32, |most, value| most.max(value.abs()));
        (order[0] as u32, (out.logits[order[0]] - out.logits[order[1]]) / largest)
    }
}

/// Through HTTP, on the fake driver: greedy answers are the reference's as far as its best token leads by more than the
/// executor may be wrong.
#[test]
fn greedy_answers_are_the_references_where_its_margin_allows() {
    /// As the executor says of itself.
    const LOGITS_ERROR_MAX: f32 = 0.055;
    /// A random model is seldom sure: enough questions for some tokens that it is sure of.
    const QUESTIONS: usize = 12;
    const TOKENS: usize = 4;
    let driver = driver_variables();
    let variables = driver.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut compared = 0;
    for (name, tiny, form) in [
        ("bf16", TinyModel::qwen3(), Err(HubWeights::Plain(StoredType::BF16))),
        ("awq", TinyModel::qwen3(), Err(HubWeights::Awq)),
        ("q4_k", TinyModel::qwen3(), Ok(TensorType::Q4K)),
        ("qwen2", TinyModel::qwen2(), Ok(TensorType::Q8_0)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny");
        let model = match form {
            Ok(kind) => {
                let model = model.with_extension("gguf");
                tiny.write(&model, kind).unwrap();
                model
            }
            Err(weights) => {
                tiny.write_hub(&model, weights, 1).unwrap();
                model
            }
        };
        let config = config_of(folder.path(), &model, &settings("cuda"));
        let mut server = Server::configured(&config, &[], &variables);
        server.wait("is ready", |server| server.get("/ready").status == 200);
        let mut reference = Reference::open(&model);
        for number in 0..QUESTIONS {
            let question =
                format!("{number} jobs in the {} of the system", ["north", "east", "west"][number % 3]);
            let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
            let body = json!({"model": "tiny", "prompt": prompt, "add_special_tokens": false});
            let mut tokens: Vec<u32> = serde_json::from_value(
                server.post("/tokenize", body.to_string().as_bytes()).json()["tokens"].clone(),
            )
            .unwrap();
            let begin = tokens.len();
            let message = json!([{"role": "user", "content": question}]);
            let answer =
                server.chat(json!({"model": "tiny", "messages": message, "max_completion_tokens": TOKENS}));
            assert_eq!(answer.json()["usage"]["prompt_tokens"], begin, "{name}: the same prompt");
            let said = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
            // The reference's answer as far as it is sure.
            while tokens.len() < begin + TOKENS {
                let (token, margin) = reference.next(&tokens);
                if margin <= 2.0 * LOGITS_ERROR_MAX {
                    break;
                }
                tokens.push(token);
            }
            let body = json!({"model": "tiny", "tokens": tokens[begin..]});
            let sure = server.post("/detokenize", body.to_string().as_bytes()).json()["prompt"].clone();
            let sure =
                sure.as_str().unwrap().split("<|im_end|>").next().unwrap().trim_end_matches('\u{fffd}');
            assert!(said.starts_with(sure), "{name}, {question:?}: {said:?} instead of {sure:?}");
            compared += tokens.len() - begin;
        }
    }
    assert!(compared >= 8, "the reference was sure of {compared} tokens: nothing was compared");
}

/// Steps begin before they are planned, beside requests that come and go: the answers stay what each gets alone.
#[test]
fn answers_are_the_same_together_with_steps_started_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let server = on_the_fake_driver(folder.path(), &settings("cuda"), &[]);
    let asked = |number: usize| {
        let message = json!({"role": "user", "content": format!("Say {number} words.")});
        let tokens = 8 + 5 * number;
        json!({"model": "tiny", "max_completion_tokens": tokens, "seed": number, "temperature": 1.0,
            "messages": [message]})
    };
    let text = |server: &Server, number| {
        let answer = server.chat(asked(number));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let alone: Vec<String> = (0..5).map(|number| text(&server, number)).collect();
    let ahead = |server: &Server| {
        let metrics = server.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with("quarry_rows_ahead_total{"));
        line.and_then(|line| line.split(' ').next_back()?.parse::<u64>().ok()).expect("the counter is there")
    };
    let before = ahead(&server);
    assert!(before > 20, "{before} rows ahead");
    let together: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..5)
            .map(|number| {
                scope.spawn({
                    let server = &server;
                    move || text(server, number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(together, alone);
    assert!(ahead(&server) > before);
}

/// Two models of which the device holds one: they change places, their conversations stay, and answers are those of a device
/// that holds both. With bf16 and int8 KV.
#[test]
fn models_change_places_and_conversations_stay() {
    for kv in ["bf16", "int8"] {
        let folder = tempfile::tempdir().unwrap();
        let names = ["first", "second"];
        let files = names.map(|name| folder.path().join(format!("{name}.gguf")));
        TinyModel::qwen3().write(&files[0], TensorType::Q4K).unwrap();
        TinyModel::qwen3_tied().write(&files[1], TensorType::Q8_0).unwrap();
        let config = folder.path().join("quarry.yaml");
        let server = format!(
            "{{device: cuda, kv_cache: 64MiB, kv_cache_type: {kv}, step_tokens_max: 64, step_rows_max: 8, switch_wait_ms: 1}}"
        );
        let [first, second] = files.each_ref().map(|path| path.display());
        let models = format!("{{primary: {{name: {first}}}, maximum: {{name: {second}}}}}");
        std::fs::write(&config, format!("models: {models}\nserver: {server}\n")).unwrap();
        let answers = |memory_bytes: u64| -> (Vec<String>, bool) {
            let driver = driver_variables();
            let memory = memory_bytes.to_string();
            let mut variables = vec![("FAKE_CUDA_MEMORY_BYTES", memory.as_str())];
            variables.extend(driver.iter().map(|(name, value)| (*name, value.as_str())));
            let mut server = Server::configured(&config, &[], &variables);
            server.wait("is ready", |server| server.get("/ready").status == 200);
            let mut said = Vec::new();
            let mut talks = names.map(|_| vec![json!({"role": "user", "content": "Where are the jobs?"})]);
            for _ in 0..3 {
                for (name, talk) in names.iter().zip(&mut talks) {
                    let asked = json!({"model": name, "messages": talk, "max_completion_tokens": 8, "temperature": 0});
                    let answer = server.chat(asked);
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
                    talk.push(json!({"role": "assistant", "content": text}));
                    talk.push(json!({"role": "user", "content": "And then?"}));
                    said.push(text);
                }
            }
            let metrics = server.get("/metrics").body;
            let switched = |line: &str| {
                let count = line.starts_with("quarry_model_switch_seconds_count{");
                count && !line.ends_with(" 0")
            };
            (said, metrics.lines().any(switched))
        };
        let (expected, has_switched) = answers(1 << 30);
        assert!(!has_switched, "both fit");
        // One model's weights beside KV cache and scratch, and half of another's.
        let (found, has_switched) = answers(86_200_000);
        assert!(has_switched, "they took turns");
        assert_eq!(found, expected, "{kv}");
    }
}

/// What whoever has a card runs (`tests/gpu`), here for its figures' sake no more than for its speed: none of them is true.
#[test]
fn the_devices_bench_measures_every_part() {
    let folder = tempfile::tempdir().unwrap();
    let models = ["first.gguf", "second.gguf"].map(|name| folder.path().join(name));
    TinyModel::qwen3().write(&models[0], TensorType::Q4K).unwrap();
    TinyModel::qwen3_tied().write(&models[1], TensorType::Q8_0).unwrap();
    let out = folder.path().join("out");
    let ended = Command::new(env!("CARGO_BIN_EXE_quarry"))
        .args(["bench", "gpu", "--batches", "1,2", "--contexts", "0,16", "--prompts", "12", "--steps", "2"])
        .args(["--repeats", "1", "--probe-mib", "1", "--out"])
        .arg(&out)
        .args(&models)
        .envs(driver_variables())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("gpu.json")).unwrap()).unwrap();
    assert!(report["link"]["int8_tops"].as_f64().unwrap() > 0.0, "{report}");
    for model in 0..2 {
        let model = &report["models"][model];
        let decode = model["decode"].as_array().unwrap();
        assert_eq!(decode.len(), 4);
        for test in decode {
            assert!(test["tokens_per_second"].as_f64().unwrap() > 0.0 && test["bytes"].as_u64().unwrap() > 0);
        }
        assert_eq!(model["prefill"][0]["tokens"], 12);
        assert!(model["swap"]["out_gb_per_second"].as_f64().unwrap() > 0.0);
    }
    let switches = report["switches"].as_array().unwrap();
    assert_eq!(
        (switches[0]["to"].as_str(), switches[1]["to"].as_str()),
        (Some("second.gguf"), Some("first.gguf"))
    );
    let picture = std::fs::read_to_string(out.join("first.gguf-decode.svg")).unwrap();
    assert_eq!(picture.matches("<polyline").count(), 2);
    assert!(String::from_utf8_lossy(&ended.stdout).contains("decode x2 behind 16"));
}

/// Where the fake driver and its kernels are, for a program's environment.
fn driver_variables() -> [(&'static str, String); 2] {
    let path = fake_driver();
    let kernels = path.join("libkernels.so").to_str().unwrap().to_owned();
    [("LD_LIBRARY_PATH", path.to_str().unwrap().to_owned()), ("FAKE_CUDA_KERNELS", kernels)]
}

/// A server on the fake driver that is ready.
fn on_the_fake_driver(folder: &Path, settings: &str, variables: &[(&str, &str)]) -> Server {
    let driver = driver_variables();
    let driver = driver.each_ref().map(|(name, value)| (*name, value.as_str()));
    let all = [&driver[..], variables].concat();
    let mut server = Server::configured(&configured(folder, settings), &[], &all);
    server.wait("is ready", |server| server.get("/ready").status == 200);
    server
}

/// Why a server on the fake driver does not start.
fn refused(folder: &Path, settings: &str, variables: &[(&str, &str)]) -> String {
    let config = configured(folder, settings);
    let mut command = Command::new(env!("CARGO_BIN_EXE_quarry"));
    command.args(["serve", "--port", "0", "--config"]).arg(config);
    let ended = command.envs(driver_variables()).envs(variables.iter().copied()).output().expect("it starts");
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// What `quarry models fit` says beforehand is what the server's ledger charges: weights, scratch, and all the rest for KV.
#[test]
fn models_fit_as_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "{device: cuda, step_tokens_max: 64, step_rows_max: 8}";
    let memory_bytes = 1u64 << 30;
    let memory = memory_bytes.to_string();
    let server = on_the_fake_driver(folder.path(), settings, &[("FAKE_CUDA_MEMORY_BYTES", &memory)]);
    let charged = server.get("/admin/state").json()["memory"].clone();
    let said = Command::new(env!("CARGO_BIN_EXE_quarry"))
        .arg("--config")
        .arg(folder.path().join("quarry.yaml"))
        .args(["models", "fit", "--json", "--vram", &memory, "--model"])
        .arg(folder.path().join("tiny.gguf"))
        .output()
        .expect("the program starts");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let model = &said["models"][0];
    for (here, there) in [
        (&said["budget_bytes"], &charged["device_bytes_max"]),
        (&model["weight_bytes"], &charged["weight_bytes"]),
        (&model["scratch_bytes"], &charged["scratch_bytes_max"]),
        (&model["kv_bytes"], &charged["kv_bytes_max"]),
    ] {
        assert!(here.as_u64().is_some_and(|bytes| bytes > 0));
        assert_eq!(here, there, "{said} {charged}");
    }
    let kv_bytes = model["kv_bytes"].as_u64().unwrap();
    assert!(kv_bytes > (memory_bytes as f64 * 0.75) as u64, "the KV cache takes what is left: {kv_bytes}");
    let served = server.get("/v1/models").json();
    assert_eq!(model["context_tokens"], served["data"][0]["max_model_len"]);
}

#[test]
fn a_kv_cache_that_is_set_must_fit() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), "{device: cuda, kv_cache: 2GiB}", &[]);
    assert!(
        said.contains("are left of the device's memory of") && said.contains("kv_cache 2147483648"),
        "{said}"
    );
}

#[test]
fn a_device_is_chosen_by_index_or_uuid() {
    let folder = tempfile::tempdir().unwrap();
    let two = [("FAKE_CUDA_DEVICES", "2")];
    // "fake CUDA devicf" and "fake CUDA device" in hexadecimal.
    for (device, name) in [
        ("cuda:1", "Fake CUDA device 1"),
        ("cuda:GPU-66616b65-2043-5544-4120-646576696366", "Fake CUDA device 1"),
        ("cuda:GPU-66616b65-2043-5544-4120-646576696365", "Fake CUDA device"),
    ] {
        let server = on_the_fake_driver(folder.path(), &settings(device), &two);
        assert_eq!(line(&server, "computing on a CUDA device")["device"], name, "{device}");
    }
    for device in ["cuda:2", "cuda:GPU-66616b65"] {
        let said = refused(folder.path(), &settings(device), &two);
        assert!(said.contains("there is no CUDA device") && said.contains("1 (GPU-66616b65-2043-"), "{said}");
    }
}

#[test]
fn the_device_tells_its_temperature_and_power() {
    let folder = tempfile::tempdir().unwrap();
    let server = on_the_fake_driver(folder.path(), &settings("cuda"), &[]);
    let uuid = "GPU-66616b65-2043-5544-4120-646576696365";
    let state = server.get("/admin/state").json();
    // The power limit is a figure that this card does not tell.
    let expected = json!([{
        "name": "Fake CUDA device",
        "uuid": uuid,
        "temperature_celsius": 61.0,
        "power_watts": 123.5,
        "memory_used_bytes": 1u64 << 28,
        "memory_total_bytes": 1u64 << 30,
        "utilization": 0.75,
        "memory_utilization": 0.25,
        "clock_hertz": 2520e6,
        "memory_clock_hertz": 10501e6,
    }]);
    assert_eq!(state["devices"], expected);
    let metrics = server.get("/metrics").body;
    let line = format!("quarry_device_power_watts{{device=\"Fake CUDA device\",uuid=\"{uuid}\"}} 123.5");
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    assert!(!metrics.contains("quarry_device_power_limit_watts"), "{metrics}");
}

/// Neither a library that does not start nor a device that it does not know keeps anybody from computing.
#[test]
fn a_device_that_tells_nothing_computes() {
    let folder = tempfile::tempdir().unwrap();
    for (device, variables, why) in [
        ("cuda", &[("FAKE_NVML_BROKEN", "1")][..], "nvmlInit_v2 of libnvidia-ml.so.1 answers 9"),
        (
            "cuda:1",
            &[("FAKE_CUDA_DEVICES", "2")][..],
            "nvmlDeviceGetHandleByUUID of libnvidia-ml.so.1 answers 6",
        ),
    ] {
        let logged = [variables, &[("QUARRY__LOGGING__LEVEL", "debug")]].concat();
        let server = on_the_fake_driver(folder.path(), &settings(device), &logged);
        assert_eq!(line(&server, "no figures of the device")["why"], why);
        assert!(server.get("/admin/state").json().get("devices").is_none());
        assert!(!server.get("/metrics").body.contains("quarry_device_temperature"));
        assert_eq!(server.chat(json!({"model": "tiny", "max_completion_tokens": 2})).status, 200);
    }
}

#[test]
fn a_device_that_is_lost_ends_the_program_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("FAKE_CUDA_FAIL_LAUNCH", "90:sticky")];
    let mut server = on_the_fake_driver(folder.path(), &settings("cuda"), &variables);
    let answer = server.chat(json!({"model": "tiny", "max_completion_tokens": 12}));
    assert_eq!(answer.status, 500, "{}", answer.body);
    assert!(!server.ended().success());
    let said = line(&server, "the engine could not be reloaded and gives up");
    assert!(said["error"].as_str().unwrap().contains("has to be started anew"), "{said}");
}
