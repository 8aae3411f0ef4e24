#!/usr/bin/env python3
"""Compiles the kernels by NVRTC 12.9 into the folder OUT: a cubin for each architecture, and PTX of the oldest.

  images.py OUT       then   QUARRY_CUDA_IMAGES=OUT cargo build --release --features cuda

For releases: cubins of a 12.x compiler run under every driver from 525 on that knows the card, those of nvcc 13 (what
build.rs compiles by itself) only from 580 on. NVRTC and the headers are NVIDIA's own Python wheels, fetched the first
time into the user's cache (137 MB). Needs python3 with pip; no nvcc, no driver.
"""

import ctypes
import fcntl
import os
import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent
WHEELS = [
    "nvidia-cuda-nvrtc-cu12==12.9.86",
    "nvidia-cuda-runtime-cu12==12.9.79",
    "nvidia-cuda-nvcc-cu12==12.9.86",
    "nvidia-cuda-cccl-cu12==12.9.27",
]
CUBINS = ["sm_80", "sm_86", "sm_89", "sm_90", "sm_120"]
PTX = "compute_80"


def wheels():
    """The wheels' folder; they are fetched where it is not whole."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "quarry"
    cache = pathlib.Path(os.environ.get("QUARRY_CACHE") or home) / "nvrtc"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = cache / "complete"
        if not complete.exists() or complete.read_text() != " ".join(WHEELS):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run(pip + ["--upgrade", "--target", cache / "wheels"] + WHEELS, check=True, stdout=sys.stderr)
            complete.write_text(" ".join(WHEELS))
    return cache / "wheels" / "nvidia"


class Nvrtc:
    def __init__(self, folder):
        lib = folder / "cuda_nvrtc" / "lib"
        ctypes.CDLL(str(lib / "libnvrtc-builtins.so.12.9"), mode=ctypes.RTLD_GLOBAL)
        self.nvrtc = ctypes.CDLL(str(lib / "libnvrtc.so.12"))
        self.includes = [folder / part / "include" for part in ("cuda_runtime", "cuda_nvcc", "cuda_cccl")]

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.check(getattr(self.nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), what)
        out = ctypes.create_string_buffer(size.value)
        self.check(getattr(self.nvrtc, f"nvrtcGet{what}")(program, out), what)
        return out.raw

    def check(self, code, what):
        if code != 0:
            sys.exit(f"NVRTC: {what} failed with error {code}")

    def compile(self, architecture):
        """The image for an architecture; any word of the compiler, a warning too, ends the program."""
        # Generic lambdas within kernels are host functions to NVRTC where it is not told otherwise.
        options = [f"--gpu-architecture={architecture}", "--std=c++17", "--device-as-default-execution-space"]
        options.append(f"-I{HERE / 'kernels'}")
        options += [f"-I{folder}" for folder in self.includes]
        array = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        program = ctypes.c_void_p()
        source = (HERE / "kernels" / "all.cu").read_bytes()
        made = self.nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, b"all.cu", 0, None, None)
        self.check(made, "making a program")
        code = self.nvrtc.nvrtcCompileProgram(program, len(options), array)
        log = self.text(program, "ProgramLog").rstrip(b"\0\n").decode()
        if code != 0 or log:
            sys.exit(f"{architecture}: {log}")
        return self.text(program, "PTX" if architecture == PTX else "CUBIN")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    nvrtc = Nvrtc(wheels())
    with ThreadPoolExecutor(2) as pool:
        for architecture, image in zip(CUBINS + [PTX], pool.map(nvrtc.compile, CUBINS + [PTX])):
            name = f"{architecture}.ptx" if architecture == PTX else f"{architecture}.cubin"
            (out / name).write_bytes(image)
            print(f"{name}: {len(image)} bytes")


main()
