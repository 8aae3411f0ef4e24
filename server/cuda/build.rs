//! Embeds the kernels, compiled for the architectures that are shipped: images that are there already (`QUARRY_CUDA_IMAGES`,
//! a folder that `images.py` filled), else what the compiler in `CUDA_HOME` makes of `kernels/all.cu`. Where there is
//! neither, the crate builds without kernels and says so when a device is opened.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Architectures of the cubins; PTX of the first is the last resort.
const ARCHITECTURES: [u32; 5] = [80, 86, 89, 90, 120];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=QUARRY_CUDA_IMAGES");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let mut images = Vec::new();
    let made = env::var_os("QUARRY_CUDA_IMAGES").map(PathBuf::from);
    let compiler = compiler();
    // Tests run kernels that were compiled for the host instead: any image does.
    if made.is_some() || compiler.is_some() {
        let image = |name: String, options: &[&str]| {
            let to = out.join(&name);
            match (&made, &compiler) {
                (Some(folder), _) => copy(&folder.join(name), &to),
                (None, Some(nvcc)) => compile(nvcc, options, &to),
                (None, None) => unreachable!("one of them is there"),
            }
            to
        };
        for architecture in ARCHITECTURES {
            let options = ["-cubin", &format!("-arch=sm_{architecture}")];
            images.push((architecture, image(format!("sm_{architecture}.cubin"), &options)));
        }
        let ptx = image("compute_80.ptx".into(), &["-ptx", "-arch=compute_80"]);
        let mut text = fs::read(&ptx).expect("just written");
        if text.last() != Some(&0) {
            text.push(0);
        }
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

fn copy(from: &Path, to: &Path) {
    println!("cargo::rerun-if-changed={}", from.display());
    assert!(fs::copy(from, to).is_ok(), "QUARRY_CUDA_IMAGES has no {}: images.py makes it", from.display());
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
