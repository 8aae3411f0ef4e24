//! A driver that is none, with kernels that were compiled for the host, put in place before cudarc looks for a driver.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use quarry_cuda::{CudaBackend, CudaOptions};

/// Builds both libraries and loads the driver, once a process.
///
/// # Panics
/// Where there is no C++ compiler or no CUDA headers ($CUDA_HOME): these tests cannot run without.
pub fn fake_driver() {
    static LOADED: OnceLock<libloading::Library> = OnceLock::new();
    LOADED.get_or_init(|| {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fake-cuda");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        build(&root.join("fake-driver/build.sh"), &out);
        build(&root.join("shim/build.sh"), &out);
        // SAFETY: no other thread reads the environment yet: tests call this first, and it runs once.
        unsafe { std::env::set_var("FAKE_CUDA_KERNELS", out.join("libkernels.so")) };
        // SAFETY: our own library; a later search for libcuda.so.1 finds the one that is loaded.
        unsafe { libloading::Library::new(out.join("libcuda.so")) }.expect("the fake driver loads")
    });
}

fn build(script: &Path, out: &Path) {
    let built = Command::new("bash").arg(script).arg(out).output().expect("bash is there");
    assert!(
        built.status.success(),
        "{}:\n{}{}",
        script.display(),
        String::from_utf8_lossy(&built.stdout),
        String::from_utf8_lossy(&built.stderr)
    );
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
