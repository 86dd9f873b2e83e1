#!/usr/bin/env bash
# build-binaries.sh api|tools|node|all|NAME…: build Kubernetes, etcd, CoreDNS, kind and Helm from their Go modules, pinned
# with checksums in modules/. What was built before is kept. Prints `NAME PATH` per binary; the progress goes to stderr.
# Where there is no Go, a program of the name on PATH serves as it is.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

api=(kube-apiserver kube-controller-manager etcd kubectl)  # all that tests/api needs
tools=(kind kubectl helm)                                  # all that a pulled node image needs
node=("${api[@]}" kube-scheduler kube-proxy kubelet kubeadm coredns local-path-provisioner)  # what is in a node image
declare -A package=(
  [kube-apiserver]=k8s.io/kubernetes/cmd/kube-apiserver
  [kube-controller-manager]=k8s.io/kubernetes/cmd/kube-controller-manager
  [kube-scheduler]=k8s.io/kubernetes/cmd/kube-scheduler
  [kube-proxy]=k8s.io/kubernetes/cmd/kube-proxy
  [kubelet]=k8s.io/kubernetes/cmd/kubelet
  [kubeadm]=k8s.io/kubernetes/cmd/kubeadm
  [kubectl]=k8s.io/kubernetes/cmd/kubectl
  [etcd]=go.etcd.io/etcd/server/v3
  [kind]=sigs.k8s.io/kind
  [helm]=helm.sh/helm/v4/cmd/helm
  [coredns]=.
  [local-path-provisioner]=github.com/rancher/local-path-provisioner
)
modules=(kubernetes etcd kind helm coredns local-path-provisioner)

module_of() { case $1 in kube*) echo kubernetes ;; *) echo "$1" ;; esac }

# A module's binaries, keyed by all that makes them: what it pins, and the commands without their comments.
folder_of() {
  local made_by
  made_by=$({ cat "$here/modules/$1"/*; declare -f compile linker_flags; } | key)
  echo "$cache/binaries/$1-$made_by"
}

linker_flags() {  # without these, the programs report no version, and kubeadm refuses to work
  local v minor target
  case $1 in
    kubernetes)
      v=$(kubernetes_version) minor=$(cut -d. -f2 <<< "$v")
      for target in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf ' -X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
          "$target" "$v" "$target" "$target" "$minor" "$target"
      done ;;
    helm) printf ' -X helm.sh/helm/v4/internal/version.version=%s' "$(version helm helm.sh/helm/v4)" ;;
  esac
}

# compile MODULE FOLDER PACKAGE…: programs into a folder.
compile() {
  CGO_ENABLED=0 gently go build -trimpath -buildvcs=false -ldflags "-s -w$(linker_flags "$1")" -o "$2/" "${@:3}" \
    < /dev/null >&2 9>&-
  [ "$1" != etcd ] || mv "$2/server" "$2/etcd"  # the one whose folder is not called like its program
}

# build MODULE NAME…: into a new folder first, so that an interrupted build leaves nothing that looks whole.
build() {
  local module=$1 folder new name packages=()
  folder=$(folder_of "$module")
  shift
  cd "$here/modules/$module"
  command -v go > /dev/null || die "no Go to build $* with, and none of them on PATH: install Go"
  go list -m > /dev/null || die "$(go version) is too old: see the line \`go\` in $PWD/go.mod"
  for name in "$@"; do packages+=("${package[$name]}"); done
  mkdir -p "$folder"
  rm -rf "$folder"/.new-*  # an interrupted one's: the lock is held
  new=$(mktemp -d "$folder/.new-XXXXXX")
  say "building $* from Go modules"
  compile "$module" "$new" "${packages[@]}"
  for name in "$@"; do mv "$new/$name" "$folder/$name"; done
  rmdir "$new"
}

names=()
for argument in "$@"; do
  case $argument in
    api) names+=("${api[@]}") ;;
    tools) names+=("${tools[@]}") ;;
    node) names+=("${node[@]}") ;;
    all) names+=("${node[@]}" "${tools[@]}") ;;
    *) [ -n "${package[$argument]:-}" ] || die "no binary is called $argument"; names+=("$argument") ;;
  esac
done

for module in "${modules[@]}"; do
  folder=$(folder_of "$module") missing=()
  missing_names() {
    missing=()
    for name in "${names[@]}"; do
      [ "$(module_of "$name")" = "$module" ] && [ ! -x "$folder/$name" ] && [[ " ${missing[*]} " != *" $name "* ]] || continue
      command -v go > /dev/null || ! command -v "$name" > /dev/null || continue
      missing+=("$name")
    done
  }
  missing_names
  [ ${#missing[@]} -gt 0 ] || continue
  (
    locked "build-$module"
    missing_names  # another run may have built them while this one waited
    [ ${#missing[@]} -eq 0 ] || build "$module" "${missing[@]}"
  )
done

for name in "${names[@]}"; do
  path="$(folder_of "$(module_of "$name")")/$name"
  [ -x "$path" ] || path=$(command -v "$name")
  echo "$name $path"
done
