//! An environment with the Python packages of `tests/api/requirements.txt`, installed by pip under the build folder,
//! once per pinned set of versions.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of `tests/api`.
pub fn api(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(file)
}

/// Runs a command; a failure is shown with all that it said.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
}

/// The environment's Python. Made under a name of its own and moved into place, so that a half-made one is never
/// used; an environment does not mind, since it is called by its Python's path.
pub fn python() -> PathBuf {
    let requirements = std::fs::read_to_string(api("requirements.txt")).unwrap();
    let pins = requirements.split_whitespace().collect::<Vec<_>>().join("_");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sdk_{pins}"));
    if !folder.exists() {
        let making = folder.with_extension(format!("making-{}", std::process::id()));
        run(Command::new("python3").args(["-m", "venv"]).arg(&making));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        run(Command::new(making.join("bin/python")).args(pip).arg(api("requirements.txt")));
        if let Err(error) = std::fs::rename(&making, &folder) {
            assert!(folder.exists(), "{error}");
            std::fs::remove_dir_all(&making).unwrap();
        }
    }
    folder.join("bin/python")
}
