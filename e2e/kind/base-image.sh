#!/usr/bin/env bash
# base-image.sh: print an image that the project's own images and the kind nodes can be built on, and make it first if
# need be. `python:3.11-slim` where it is here or can be pulled, and where not, a Debian from its packages that has what
# that image has: python, pip and the host's trust in certificate authorities.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wanted=python:3.11-slim-bookworm
made=freehold-e2e/python:3.11-$(key "${BASH_SOURCE[0]}")

has() { docker image inspect "$1" > /dev/null 2>&1; }

"$here/docker-engine.sh"
if has "$made"; then echo "$made"; exit; fi
if has "$wanted" || { can_pull "$wanted" && docker pull -q "$wanted" >&2; }; then echo "$wanted"; exit; fi

locked base-image
if has "$made"; then echo "$made"; exit; fi
command -v debootstrap > /dev/null || install_packages debootstrap
say "building $made from Debian packages"
new=$(mktemp -d "$cache/base-XXXXXX")
trap 'rm -rf "$new"' EXIT
gently debootstrap --variant=minbase bookworm "$new/tree" > "$cache/debootstrap.log" 2>&1 < /dev/null 9>&- ||
  { tail -20 "$cache/debootstrap.log" >&2; die "debootstrap failed"; }
# Behind a proxy that signs TLS anew, pip and others inside a build trust nothing else.
mkdir -p "$new/tree/etc/ssl" "$new/context"
cp /etc/ssl/certs/ca-certificates.crt "$new/tree/etc/ssl/host-ca.pem"
# As in the image that this stands in for: no pages to read, and none from packages installed later.
printf 'path-exclude /usr/share/%s/*\n' doc man info locale > "$new/tree/etc/dpkg/dpkg.cfg.d/no-pages"
rm -rf "$new/tree/var/cache/apt"/* "$new/tree/var/lib/apt/lists"/* "$new/tree/usr/share"/{doc,man,info,locale}/*
tar -C "$new/tree" -c . | docker import --change 'ENV PIP_CERT=/etc/ssl/host-ca.pem' - "$made-plain" > /dev/null
cat > "$new/context/Dockerfile" <<DOCKERFILE
FROM $made-plain
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      python3 python3-pip python3-venv python-is-python3 ca-certificates && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED
DOCKERFILE
docker_build -t "$made" "$new/context"
docker rmi "$made-plain" > /dev/null
echo "$made"
