#!/bin/sh
# Makes benchmarks/.venv-ray, the environment of the Ray that `make bench` compares Freehold with, from
# requirements.lock (pinned, with hashes, no index named). Does nothing when it is already as the lock says.
#
#   benchmarks/ray/make_env.sh            make or refresh the environment
#   benchmarks/ray/make_env.sh compile    rewrite requirements.lock from requirements.in (after changing a version)
#
# PYTHON names the interpreter (default python3); it should be the one Freehold's own environment was made with,
# or the two sides do not run the same Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
env="$here/../.venv-ray"
python=${PYTHON:-python3}

if [ "${1:-}" = compile ]; then
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    "$python" -m venv "$tools"
    "$tools/bin/pip" install --quiet pip-tools
    cd "$here"
    "$tools/bin/pip-compile" --quiet --generate-hashes --no-header --allow-unsafe --no-strip-extras \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --output-file requirements.lock requirements.in
    exit 0
fi

if [ -f "$env/made-from.lock" ] && cmp -s "$env/made-from.lock" "$here/requirements.lock"; then
    exit 0
fi
rm -rf "$env"
"$python" -m venv "$env"
"$env/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.lock"
cp "$here/requirements.lock" "$env/made-from.lock"
"$env/bin/python" -c 'import ray; print("benchmarks/.venv-ray: ray", ray.__version__)'
