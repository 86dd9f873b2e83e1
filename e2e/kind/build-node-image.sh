#!/usr/bin/env bash
# build-node-image.sh [--tag]: make the kind node image out of Debian packages and the binaries built here, and print
# its tag; with --tag print only. The tag has a hash of everything that makes it; what is there is kept.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

node=freehold-e2e/node:$(kubernetes_version)-$(key "$here/build-node-image.sh" "$here/base-image.sh" \
  "$here/build-binaries.sh" "$here"/node/* "$here"/modules/*/*)
if [ "${1:-}" = --tag ] || docker image inspect "$node" > /dev/null 2>&1; then echo "$node"; exit; fi
binaries node
base=$("$here/base-image.sh")
locked node-image
if docker image inspect "$node" > /dev/null 2>&1; then echo "$node"; exit; fi
command -v gcc > /dev/null && command -v jq > /dev/null || install_packages gcc libc6-dev jq
say "building $node"

work=$(mktemp -d "$cache/node-image-XXXXXX")
builder=freehold-e2e-build-$$
trap 'rm -rf "$work"; docker rm -f -v "$builder" > /dev/null 2>&1 || true' EXIT
images=()

# The files of kind's own node image, out of the pinned module.
kind_files() {
  cd "$here/modules/kind"
  go mod download sigs.k8s.io/kind
  cp -r "$(go list -m -f '{{.Dir}}' sigs.k8s.io/kind)/images/base/files" "$work/files"
  chmod -R u+w "$work/files"
}

# image_of TAG PROGRAM [ENTRYPOINT]: one static program as an image.
image_of() {
  local tree
  tree=$(mktemp -d "$work/tree-XXXXXX")
  mkdir -p "$tree"/{usr/local/bin,tmp}
  cp "$2" "$tree/usr/local/bin/"
  tar -C "$tree" -c . |
    docker import --change 'ENV PATH=/usr/local/bin' ${3:+--change "ENTRYPOINT [\"$3\"]"} - "$1" > /dev/null
  images+=("$1")
}

# What needs a shell or other programs beside its own.
image_of_proxy() {
  mkdir "$work/proxy"
  cp "$(command -v kube-proxy)" "$work/proxy/"
  printf 'FROM %s\nRUN apt-get update && apt-get install -y --no-install-recommends %s && %s\nCOPY kube-proxy %s\n' \
    "$base" "iptables nftables conntrack ipset kmod" "rm -rf /var/lib/apt/lists/*" /usr/local/bin/ > "$work/proxy/Dockerfile"
  docker_build -t "$1" "$work/proxy"
  images+=("$1")
}

# Debian's static busybox, as the shell of the storage provisioner's helper pods.
image_of_shell() {
  local applet
  mkdir -p "$work/busybox" "$work/shell/bin"
  docker run --rm --network host -v "$work/busybox:/out" -w /out "$base" sh -c \
    'apt-get update -qq && apt-get download -qq busybox-static && dpkg -x busybox-static_*.deb /out' > /dev/null 2>&1
  cp "$work/busybox/bin/busybox" "$work/shell/bin/"
  for applet in sh mkdir rm chmod; do ln -s busybox "$work/shell/bin/$applet"; done
  tar -C "$work/shell" -c . | docker import --change 'ENV PATH=/bin' - "$1" > /dev/null
  images+=("$1")
}

kind_files
cp "$here/node/Dockerfile" "$here/node/containerd.toml" "$work/"
docker_build -t "$builder" --build-arg "BASE_IMAGE=$base" "$work"

gcc -static -Os -s -o "$work/pause" "$here/node/pause.c"
pause=""
while read -r tag; do
  name=$(basename "${tag%%:*}")
  case $name in
    kube-proxy) image_of_proxy "$tag" ;;
    pause) image_of "$tag" "$work/pause" /usr/local/bin/pause; pause=$tag ;;
    coredns) image_of "$tag" "$(command -v coredns)" /usr/local/bin/coredns ;;
    *) image_of "$tag" "$(command -v "$name")" ;;
  esac
done < <(kubeadm config images list --kubernetes-version "$(kubernetes_version)" 2> /dev/null)
image_of freehold-e2e/local-path-provisioner:1 "$(command -v local-path-provisioner)"
image_of_shell freehold-e2e/shell:1

# Into its containerd, inside a container that is then committed, as `kind build node-image` does.
docker run -d --name "$builder" --privileged --entrypoint sleep "$builder" infinity > /dev/null
for program in kubelet kubeadm kubectl; do docker cp "$(command -v "$program")" "$builder:/usr/bin/$program"; done
docker exec -i "$builder" tee /kind/manifests/default-storage.yaml > /dev/null < "$here/node/storage.yaml"
docker exec "$builder" bash -c "
  echo -n $(kubernetes_version) > /kind/version
  sed -i 's#@PAUSE@#$pause#' /etc/containerd/config.toml
  containerd > /dev/null 2>&1 &
  for _ in \$(seq 60); do ctr version > /dev/null 2>&1 && exit 0; sleep 0.5; done
  exit 1"
docker save "${images[@]}" | docker exec -i "$builder" ctr --namespace=k8s.io images import --no-unpack - > /dev/null
docker exec "$builder" bash -c 'kill $(pidof containerd); while pidof containerd > /dev/null; do sleep 0.2; done'
docker commit --change 'ENTRYPOINT [ "/usr/local/bin/entrypoint", "/sbin/init" ]' "$builder" "$node" > /dev/null
docker rm -f -v "$builder" > /dev/null
docker rmi "$builder" > /dev/null 2>&1 || true  # the name only: its layers are the node image's
echo "$node"
