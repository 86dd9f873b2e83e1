#!/usr/bin/env bash
# build.sh [runtime|operator]…: build the images (both by default) and print their names and sizes over the base.
# BASE_IMAGE, TAG (default: the version) and PREFIX (default: freehold) are read from the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml)
base=${BASE_IMAGE:-python:3.11-slim-bookworm}
tag=${TAG:-$version}
prefix=${PREFIX:-freehold}
revision=$(git rev-parse --short HEAD 2> /dev/null || echo unknown)
[ $# -gt 0 ] || set -- runtime operator

size() { docker image inspect --format '{{.Size}}' "$1"; }

for name in "$@"; do
  image="$prefix/$name:$tag"
  # The old builder takes a base that only this machine has; the host's network reaches what pip and apt need.
  DOCKER_BUILDKIT=0 docker build --network host --file "images/$name/Dockerfile" --tag "$image" \
    --build-arg "BASE_IMAGE=$base" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" . >&2
  echo "$image $((($(size "$image") - $(size "$base")) / 1000000)) MB over $base"
done
