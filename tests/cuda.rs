//! The program with the CUDA back end in it: without a driver, with a driver that finds no device, and on the fake driver,
//! whose kernels run on the processor.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use quarry_tiny::{TensorType, TinyModel};
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

/// Small ones.
fn settings(device: &str) -> String {
    format!("{{device: \"{device}\", kv_cache: 64MiB, step_tokens_max: 64, step_rows_max: 8}}")
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
    let path = fake_driver();
    let kernels = path.join("libkernels.so");
    let variables =
        [("LD_LIBRARY_PATH", path.to_str().unwrap()), ("FAKE_CUDA_KERNELS", kernels.to_str().unwrap())];
    let config = config(folder.path(), "cuda");
    let mut server = Server::configured(&config, &[], &variables);
    server.wait("is ready", |server| server.get("/ready").status == 200);
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

/// Where the fake driver and its kernels are, for a program's environment.
fn driver_variables() -> [(&'static str, String); 2] {
    let path = fake_driver();
    let kernels = path.join("libkernels.so").to_str().unwrap().to_owned();
    [("LD_LIBRARY_PATH", path.to_str().unwrap().to_owned()), ("FAKE_CUDA_KERNELS", kernels)]
}

/// A configuration with a tiny model and these settings of the server.
fn configured(folder: &Path, settings: &str) -> PathBuf {
    let model = folder.join("tiny.gguf");
    TinyModel::qwen3().write(&model, TensorType::Q4K).unwrap();
    let config = folder.join("quarry.yaml");
    let text = format!("models:\n  primary: {{name: {}}}\nserver: {settings}\n", model.display());
    std::fs::write(&config, text).unwrap();
    config
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
    let path = fake_driver();
    let kernels = path.join("libkernels.so");
    let variables = [
        ("LD_LIBRARY_PATH", path.to_str().unwrap()),
        ("FAKE_CUDA_KERNELS", kernels.to_str().unwrap()),
        ("FAKE_CUDA_FAIL_LAUNCH", "90:sticky"),
    ];
    let config = config(folder.path(), "cuda");
    let mut server = Server::configured(&config, &[], &variables);
    server.wait("is ready", |server| server.get("/ready").status == 200);
    let answer = server.chat(json!({"model": "tiny", "max_completion_tokens": 12}));
    assert_eq!(answer.status, 500, "{}", answer.body);
    assert!(!server.ended().success());
    let said = line(&server, "the engine could not be reloaded and gives up");
    assert!(said["error"].as_str().unwrap().contains("has to be started anew"), "{said}");
}
