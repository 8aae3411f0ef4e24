//! Compiles `kernels/all.cu` for the architectures that are shipped and embeds what comes out; where there is no compiler,
//! the crate builds without kernels and says so when a device is opened.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Architectures of the cubins; PTX of the first is the last resort.
const ARCHITECTURES: [u32; 5] = [80, 86, 89, 90, 120];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let mut images = Vec::new();
    // Tests run kernels that were compiled for the host instead: any image does.
    if let Some(nvcc) = compiler() {
        for architecture in ARCHITECTURES {
            let image = out.join(format!("sm_{architecture}.cubin"));
            compile(&nvcc, &["-cubin", &format!("-arch=sm_{architecture}")], &image);
            images.push((architecture, image));
        }
        let ptx = out.join("compute_80.ptx");
        compile(&nvcc, &["-ptx", "-arch=compute_80"], &ptx);
        let mut text = fs::read(&ptx).expect("just written");
        text.push(0);
        fs::write(&ptx, text).expect("the output folder can be written");
        images.push((0, ptx));
    }
    let entry = |(architecture, path): &(u32, PathBuf)| {
        format!("Image {{ architecture: {architecture}, bytes: include_bytes!({path:?}) }},\n")
    };
    let entries: String = images.iter().map(entry).collect();
    let text = format!("static IMAGES: &[Image] = &[{entries}];\n");
    fs::write(out.join("images.rs"), text).expect("the output folder can be written");
}

fn compiler() -> Option<PathBuf> {
    let home = env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
    home.filter(|nvcc| nvcc.is_file())
}

fn compile(nvcc: &Path, options: &[&str], to: &Path) {
    let status = Command::new(nvcc)
        .args(["-std=c++17", "-O3", "--Werror", "all-warnings", "-o"])
        .arg(to)
        .args(options)
        .arg("kernels/all.cu")
        .status()
        .expect("nvcc starts");
    assert!(status.success(), "nvcc could not compile the kernels");
}
