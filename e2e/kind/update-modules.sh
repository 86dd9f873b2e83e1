#!/usr/bin/env bash
# update-modules.sh: write modules/*/go.mod and go.sum anew from the versions below. For a change of versions alone;
# a build reads what is committed and resolves nothing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# On a host with cgroup v1, Kubernetes 1.34 is the last whose kubelet starts as it is.
kubernetes=v1.34.4 etcd=v3.6.14 kind=v0.33.0 helm=v4.3.1 coredns=v1.14.7 local_path=v0.0.30

# module NAME REQUIRED VERSION TOOL…: one module that builds TOOLs out of REQUIRED.
module() {
  local name=$1 required=$2 version=$3 tool
  shift 3
  mkdir -p "$here/modules/$name"
  cd "$here/modules/$name"
  rm -f go.sum
  {
    printf 'module freehold.test/%s\n\ngo 1.24.0\n\nrequire %s %s\n\n' "$name" "$required" "$version"
    cat
    for tool in "$@"; do echo "tool $tool"; done
  } > go.mod
  go mod tidy
}

# k8s.io/kubernetes cannot be required as it is: its go.mod replaces the staging modules by folders of its own tree.
staging() {
  grep -oE '^\s*\S+ => \./staging/src/\S+' "$(go mod download -json "k8s.io/kubernetes@$kubernetes" | jq -r .GoMod)" |
    awk -v version="v0${kubernetes#v1}" '{ print "replace " $1 " => " $1 " " version }'
}

staging | module kubernetes k8s.io/kubernetes "$kubernetes" \
  k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kube-proxy,kubelet,kubeadm,kubectl}
module etcd go.etcd.io/etcd/server/v3 "$etcd" go.etcd.io/etcd/server/v3 < /dev/null
module kind sigs.k8s.io/kind "$kind" sigs.k8s.io/kind < /dev/null
module helm helm.sh/helm/v4 "$helm" helm.sh/helm/v4/cmd/helm < /dev/null
module coredns github.com/coredns/coredns "$coredns" < /dev/null  # its program is modules/coredns/main.go
module local-path-provisioner github.com/rancher/local-path-provisioner "$local_path" \
  github.com/rancher/local-path-provisioner < /dev/null
