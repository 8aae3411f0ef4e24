//! A driver that is none, with kernels that were compiled for the host, put in place before cudarc looks for a driver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use quarry_cuda::{CudaBackend, CudaOptions};

/// Builds both libraries and loads the driver, once a process.
///
/// # Panics
/// Where there is no C++ compiler, or no CUDA headers can be had (`toolkit.sh`): these tests cannot run without.
pub fn fake_driver() {
    static LOADED: OnceLock<libloading::Library> = OnceLock::new();
    LOADED.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fake-cuda");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let toolkit = output(Command::new("bash").arg(root.join("toolkit.sh")));
        for script in ["fake-driver/build.sh", "shim/build.sh"] {
            output(Command::new("bash").arg(root.join(script)).arg(&out).env("CUDA_HOME", toolkit.trim()));
        }
        // SAFETY: no other thread reads the environment yet: tests call this first, and it runs once.
        unsafe { std::env::set_var("FAKE_CUDA_KERNELS", out.join("libkernels.so")) };
        // SAFETY: our own library; a later search for libcuda.so.1 finds the one that is loaded.
        unsafe { libloading::Library::new(out.join("libcuda.so")) }.expect("the fake driver loads")
    });
}

/// What a command says.
fn output(command: &mut Command) -> String {
    let ended = command.output().expect("bash is there");
    let [said, errors] =
        [&ended.stdout, &ended.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(ended.status.success(), "{command:?}:\n{said}{errors}");
    said
}

/// The back end over the fake driver.
pub fn backend() -> CudaBackend {
    fake_driver();
    let options = CudaOptions {
        image: Some(b".version 7.0\n.target sm_80\n.address_size 64\n\0"),
        ..CudaOptions::default()
    };
    CudaBackend::new(options).expect("the fake driver has a device")
}
