#!/usr/bin/env bash
# What goes into an image, for the Dockerfiles and for the Apptainer definition alike. Run as root while an image is built.
#
#   install.sh packages LOCK     every locked package into /opt/venv, over what the base brings; its torch is not touched
#   install.sh engine VERSION    Transformer Engine, compiled against the base's torch, where the base has an older one or none
#   install.sh python            Debian's Python and OpenMP, where the base has none; then an environment of it in /opt/venv
#   install.sh torch VERSION URL torch into it, also from the index URL where one is given: of CPUs, where the base has none
#   install.sh locked LOCK       every locked package into it
#   install.sh evaluation LOCK   what recipes/eval.py needs, beside the packages of a vLLM image
#   install.sh tasks COMMIT      the Open PL LLM Leaderboard's task definitions into /opt/open_pl
#   install.sh user              the user that the image runs as
set -euo pipefail

venv="${MINITRON_VENV:-/opt/venv}"
tasks="${MINITRON_TASKS:-/opt/open_pl}"
leaderboard=https://github.com/speakleash/lm-evaluation-harness
uv_version=0.13.9 # as ./minitron

fail() {
    echo "install.sh: $*" >&2
    exit 2
}

# An environment over the base's packages: what is installed there hides theirs, and takes none of them away.
environment() {
    export PIP_CONSTRAINT='' UV_LINK_MODE=copy # NVIDIA's images pin their own packages for pip
    command -v uv >/dev/null ||
        PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --disable-pip-version-check "uv==$uv_version"
    uv venv --quiet --system-site-packages "$@" --python "$(command -v python3)" "$venv"
}

packages() {
    local lock="$1"
    if grep -qE '^(torch|triton|nvidia-nccl-cu[0-9]+|transformer-engine)==' "$lock"; then
        fail "$lock names what the base brings: torch and what is built for it are the base's"
    fi
    environment
    locked "$lock"
    # the base's own torchrun starts the base's Python, which has none of this
    printf '#!/bin/sh\nexec "%s/bin/python" -m torch.distributed.run "$@"\n' "$venv" >"$venv/bin/torchrun"
    chmod 755 "$venv/bin/torchrun"
    "$venv/bin/python" - "$venv" <<'PYTHON'
import importlib.util, sys
torch = importlib.util.find_spec("torch")
if torch is None:
    sys.exit("install.sh: the base has no torch")
if torch.origin.startswith(sys.argv[1]):
    sys.exit(f"install.sh: torch was installed into {sys.argv[1]}, over the base's")
PYTHON
}

python() {
    local wanted=()
    python3 -c 'import ensurepip' 2>/dev/null || wanted+=(ca-certificates python3 python3-venv)
    ldconfig -p | grep -F libgomp.so.1 >/dev/null || wanted+=(libgomp1) # llama.cpp's server links it
    if [ "${#wanted[@]}" != 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${wanted[@]}"
        rm -rf /var/lib/apt/lists/*
    fi
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "uv==$uv_version"
}

torch() {
    "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check ${2:+--extra-index-url "$2"} "torch==$1"
}

# uv sees nothing of the packages below a venv, so that all of the lock comes into it, and comes first. It reads none of pip's
# configuration: where it cannot reach the packages, pip does the same work.
locked() {
    local uv="$venv/bin/uv"
    [ -x "$uv" ] || uv=uv
    "$uv" pip install --quiet --no-cache --compile-bytecode --system-certs --python "$venv/bin/python" --no-deps -r "$1" ||
        "$venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps -r "$1"
}

# megatron-core 0.15 takes 2.9, the base of 25.09 has an older one: Megatron-Bridge 0.2.2 compiles its own on it, too.
engine() {
    local version="$1" have cuda
    [[ "$version" =~ ^[0-9]+(\.[0-9]+)+$ ]] || fail "engine: expected a version such as 2.9.0, got $version"
    have="$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("transformer-engine"))' 2>/dev/null || true)"
    if [ -n "$have" ] && [ "$(printf '%s\n' "$version" "$have" | sort --version-sort | head -n 1)" = "$version" ]; then
        return
    fi
    cuda="$("$venv/bin/python" -c 'import torch; print((torch.version.cuda or "").partition(".")[0])')"
    [ -n "$cuda" ] || fail "engine: the base's torch has no CUDA"
    # without isolation the build sees the base's torch; what it needs besides, the base has for its own
    NVTE_FRAMEWORK=pytorch uv pip install --quiet --no-cache --python "$venv/bin/python" --no-build-isolation --no-deps \
        "transformer-engine==$version" "transformer-engine-cu$cuda==$version" "transformer-engine-torch==$version"
}

evaluation() {
    local lock="$1" bounds
    bounds="$(mktemp)"
    environment --seed
    # vLLM and what it computes with stay the image's; what the image has not is the lock's; anything else pip may replace,
    # in the environment alone: the server runs by the image's own Python
    "$venv/bin/python" -m pip list --format=freeze --disable-pip-version-check >"$bounds.image"
    "$venv/bin/python" - "$lock" "$bounds" <<'PYTHON'
import re, sys
lock, bounds = sys.argv[1:]
kept = re.compile(r"vllm|torch.*|triton|nvidia-.*|cuda-.*|transformers|tokenizers|huggingface-hub|safetensors|numpy|numba|llvmlite"
                  r"|compressed-tensors|xformers|flashinfer.*|xgrammar|outlines-core|pydantic.*|protobuf|ray")
def name(line):
    return re.sub(r"[-_.]+", "-", re.split(r"[=\s;]", line)[0]).lower()
image = {name(line): line for line in open(bounds + ".image")}
locked = [line for line in open(lock) if "==" in line and not line.startswith("#")]
with open(bounds, "w") as file:
    file.writelines(line for each, line in image.items() if kept.fullmatch(each))
    file.writelines(line for line in locked if name(line) not in image)
PYTHON
    "$venv/bin/python" -m pip install --no-cache-dir --disable-pip-version-check --constraint "$bounds" \
        hydra-core omegaconf rich lm-eval tenacity
    rm "$bounds" "$bounds.image"
}

tasks() {
    local commit="$1"
    [[ "$commit" =~ ^[0-9a-f]{40}$ ]] || fail "LEADERBOARD_COMMIT=$commit: expected the 40 hexadecimal digits of a commit"
    git init --quiet "$tasks"
    git -C "$tasks" sparse-checkout set lm_eval/tasks
    git -C "$tasks" fetch --quiet --depth 1 --filter=blob:none "$leaderboard" "$commit"
    git -C "$tasks" checkout --quiet "$commit"
    [ -d "$tasks/lm_eval/tasks" ] || fail "$leaderboard has no lm_eval/tasks at $commit"
    rm -rf "$tasks/.git"
    echo "$commit" >"$tasks/COMMIT"
}

user() {
    useradd --create-home --uid 10001 --shell /bin/bash minitron
}

case "${1:-}" in
    packages | engine | locked | evaluation | tasks) [ $# -eq 2 ] || fail "$1 wants one argument" ;;
    torch) [ $# -eq 3 ] || fail "torch wants a version and an index, which may be empty" ;;
    python | user) [ $# -eq 1 ] || fail "$1 wants no argument" ;;
    *) fail "expected packages, engine, python, torch, locked, evaluation, tasks or user; got '${1:-}'" ;;
esac
"$@"
