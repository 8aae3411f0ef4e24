#!/usr/bin/env bash
# Builds docker/Dockerfile and runs what comes out on a Debian machine that has neither a container engine nor a registry:
#
#   docker/try-without-engine.sh [WORK_FOLDER]      as root; a quarter of an hour the first time, 8 GB in the folder
#   CUDA=1 …                                        also the build stage of Dockerfile.cuda, with FEATURES=cuda
#
# Buildah carries out the Dockerfile's own lines. Its two bases are made here, from Debian's packages and the Rust toolchain
# of this machine, and named like the real ones: so what is shown is shown of these stand-ins, not of the published images.
# The server runs as compose.yaml has it: the image's user, a root that cannot be written, volumes at /models and /data.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'try-without-engine: %s\n' "$*" >&2; exit 1; }
step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

[ "$(id -u)" = 0 ] || die "needs root: debootstrap, mounts and chroot"
work=$(realpath -m "${1:-target/containers}")
mkdir -p "$work"
model=smollm2-135m-instruct-q4_1
port=18080
cache=${QUARRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quarry}
[ -f "$cache/models/$model.gguf" ] || die "no $model here; run: quarry models pull $model"
missing=()
for tool in debootstrap buildah curl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} = 0 ] || { apt-get update -qq && apt-get install -y -qq "${missing[@]}" >/dev/null; }
store() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
here() { store images --quiet "$1" >/dev/null 2>&1; }

# `FROM` lines name the bases; the last is what runs.
mapfile -t bases < <(sed -n 's/^FROM \([^ ]*\).*/\1/p' docker/Dockerfile)
build_base=docker.io/library/${bases[0]} run_base=docker.io/library/${bases[1]}
release=$(sed 's/.*debian:\([a-z]*\)-slim$/\1/' <<<"${bases[1]}")

step "stand-in for ${bases[1]}"
if ! here "$run_base"; then
  rm -rf "$work/tree"
  debootstrap --variant=minbase "$release" "$work/tree" >"$work/debootstrap.log" || die "see $work/debootstrap.log"
  rm -rf "$work/tree"/var/cache/apt/archives/*.deb
  container=$(store from scratch)
  store add --quiet "$container" "$work/tree" / >/dev/null
  store commit --quiet "$container" "$run_base" >/dev/null
  store rm "$container" >/dev/null
fi

step "stand-in for ${bases[0]}"
wanted=$(sed 's/^rust:\([0-9.]*\)-.*/\1/' <<<"${bases[0]}")
rustc --version | grep -qF " $wanted " || die "rustc here is not $wanted"
if ! here "$build_base"; then
  container=$(store from "$run_base")
  # What the slim image adds to Debian: a linker, libc's headers, certificates. No C++ compiler, no make, no Python.
  store run --isolation chroot --env DEBIAN_FRONTEND=noninteractive "$container" -- sh -c 'apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends ca-certificates gcc libc6-dev >/dev/null'
  store copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
  rm -rf "$work/toolchain" "$work/cargo"
  mkdir -p "$work/toolchain" "$work/cargo/bin"
  for tool in cargo rustc; do ln -s "/usr/local/rustup/bin/$tool" "$work/cargo/bin/$tool"; done
  tar -C "$(rustc --print sysroot)" --exclude=share -c . | tar -C "$work/toolchain" -x
  store copy --quiet "$container" "$work/toolchain" /usr/local/rustup >/dev/null
  store copy --quiet "$container" "$work/cargo" /usr/local/cargo >/dev/null
  store config --env CARGO_HOME=/usr/local/cargo --env PATH=/usr/local/cargo/bin:/usr/bin:/bin "$container"
  store commit --quiet "$container" "$build_base" >/dev/null
  store rm "$container" >/dev/null
fi

step "docker/Dockerfile"
store bud --isolation chroot --format docker --pull-never --ignorefile .dockerignore --tag quarry:cpu \
  --file docker/Dockerfile . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log"; die "does not build"; }
grep -E '^\[?[0-9/]*\]? ?STEP' "$work/build.log"
container=$(store from --pull-never localhost/quarry:cpu)
root=$(store mount "$container")
inside() { store run --isolation chroot "$container" -- "$@"; }
# What runs in the tree ends with the script.
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  store rm "$container" >/dev/null 2>&1 || true
}
trap cleanup EXIT

step "the image's program"
inside quarry --version
inside quarry config check
printf 'runs as %s in %s\n' "$(inside id -u):$(inside id -g)" "$(inside pwd)"
[ "$(inside id -u)" = 10001 ] || die "the image runs as another user"
inside sh -c 'touch /models/x /data/x && rm /models/x /data/x' || die "the volumes cannot be written"
! inside touch /etc/quarry/x 2>/dev/null || die "the program's user can write the configuration"
printf 'image: %s MB, of which the program %s MB\n' \
  "$(du -sm "$root" | cut -f1)" "$(du -sm "$root/usr/local/bin/quarry" | cut -f1)"

step "the libraries it needs"
# Needed libraries, and the packages that bring them, as Debian's own data base has it.
libraries=$(inside ldd /usr/local/bin/quarry)
printf '%s\n' "$libraries"
! grep -q 'not found' <<<"$libraries" || die "a library is missing"
packages=$(awk '$3 ~ /^\// { print $3 }' <<<"$libraries" | while read -r path; do
  inside sh -c "dpkg -S $path 2>/dev/null || dpkg -S /usr$path" </dev/null | cut -d: -f1
done | sort -u | tr '\n' ' ')
# Of what the runtime stage installs, only the certificates are no library; libc6 comes with any Debian.
installed=$(sed -n 's/.*apt-get install --yes --no-install-recommends \([^\\&]*\).*/\1/p' docker/Dockerfile |
  tr ' ' '\n' | sed '/^$/d' | grep -v '^ca-certificates$')
expected=$(printf '%s\n' libc6 $installed | sort -u | tr '\n' ' ')
printf 'from the packages: %s\n' "$packages"
[ "$packages" = "$expected" ] || die "the runtime stage and Debian's base give: $expected"

step "the server, as compose.yaml runs it"
volumes=$work/volumes
rm -rf "$volumes"
mkdir -p "$volumes/models/models" "$volumes/data"
cp "$cache/models/$model.gguf" "$volumes/models/models/"
chown -R 10001:10001 "$volumes"
# Runs the arguments in the image's tree, in a mount namespace of its own: read-only but for the volumes and /tmp, as the
# image's user, without capabilities. Each step replaces the shell, so the process keeps its number.
contained() {
  exec unshare --mount bash -euc '
    root=$1 volumes=$2
    shift 2
    mount --bind "$root" "$root"
    mount --bind "$volumes/models" "$root/models"
    mount --bind "$volumes/data" "$root/data"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount -o remount,bind,ro "$root"
    exec chroot "$root" setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all \
      env -i PATH=/usr/local/bin:/usr/bin:/bin QUARRY_CACHE=/models QUARRY__SERVER__PORT="$0" \
      QUARRY__MODELS__PRIMARY__NAME="${MODEL%-q4_1}" QUARRY__MODELS__PRIMARY__QUANTIZATION=q4_1 \
      sh -c "cd /etc/quarry && exec \"\$@\"" sh "$@"' "$port" "$root" "$volumes" "$@"
}
export MODEL=$model
! (contained touch /etc/x) 2>/dev/null || die "the root can be written"
(contained quarry serve) 2>"$work/serve.log" &
server=$!
healthy() { (contained quarry health "$@") 2>&1; }
for _ in $(seq 100); do
  healthy >"$work/health.log" && break
  kill -0 "$server" 2>/dev/null || { tail "$work/serve.log"; die "the server ended"; }
  sleep 0.2
done
printf 'quarry health: %s\n' "$(healthy)"
grep -o '"message":"listening".*"address":"[^"]*"' "$work/serve.log" | head -1
answer=$(curl --silent --fail-with-body "http://127.0.0.1:$port/v1/chat/completions" -H 'content-type: application/json' \
  -d '{"model":"'"$model"'","messages":[{"role":"user","content":"Say hello."}],"max_tokens":8,"temperature":0}')
printf 'answer: %s\n' "$(grep -o '"content":"[^"]*"' <<<"$answer")"
kill -TERM "$server"
status=0
wait "$server" || status=$?
server=
[ "$status" = 0 ] || { tail "$work/serve.log"; die "the server ended with $status after SIGTERM"; }
printf 'ended with 0 after SIGTERM\n'
if healthy >"$work/health.log"; then die "health still says ok"; fi
printf 'quarry health then: %s\n' "$(sed 's/^quarry: //' "$work/health.log" | head -1)"
if [ "${CUDA:-0}" = 1 ]; then
  cuda_base=docker.io/$(sed -n 's/^FROM \(nvidia[^ ]*\) AS build$/\1/p' Dockerfile.cuda)
  step "stand-in for ${cuda_base#docker.io/}"
  if ! here "$cuda_base"; then
    # Debian instead of Ubuntu, and of the toolkit what toolkit.sh gets: our kernels' compiler, no libraries.
    stand_in=$(store from "$run_base")
    store copy --quiet "$stand_in" "$(server/cuda/toolkit.sh)" /usr/local/cuda >/dev/null
    store run --isolation chroot --env DEBIAN_FRONTEND=noninteractive "$stand_in" -- sh -c \
      'apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates >/dev/null'
    store copy --quiet "$stand_in" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
    store commit --quiet "$stand_in" "$cuda_base" >/dev/null
    store rm "$stand_in" >/dev/null
  fi
  step "Dockerfile.cuda, its build stage, with FEATURES=cuda"
  store bud --isolation chroot --format docker --pull-never --ignorefile .dockerignore --tag quarry:cuda-build \
    --target build --build-arg FEATURES=cuda --file Dockerfile.cuda . >"$work/build-cuda.log" 2>&1 ||
    { tail -30 "$work/build-cuda.log"; die "does not build"; }
  store rm "$container" >/dev/null
  container=$(store from --pull-never localhost/quarry:cuda-build)
  inside /out/quarry --version
  inside ldd /out/quarry
  inside sh -c 'ls -l /out/quarry' | awk '{ printf "%d MB with kernels\n", $5 / 1048576 }'
fi
printf '\nall as expected, in %s s\n' "$SECONDS"
