#!/usr/bin/env bash
# cluster.sh up [NAME [WORKERS]]: a kind cluster that works, the one that is there if it does; prints its kubeconfig.
# cluster.sh down [NAME]: away with it. cluster.sh load NAME IMAGE…: images of this machine's Docker into its nodes.
# cluster.sh prepare: all that `up` needs but the cluster. cluster.sh state [NAME]: `works`, or what is wrong with it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

action=${1:-}
name=${2:-freehold-e2e}
workers=${3:-2}
pods=10.244.0.0/16
# Published for this version; where it cannot be pulled, the image that is built here serves. `local` builds in any case.
pulled_image=${E2E_NODE_IMAGE:-kindest/node:v1.34.3}
kubeconfig=$cache/clusters/$name/kubeconfig

nodes() { docker ps -a --filter "label=io.x-k8s.kind.cluster=$name" --format '{{.Names}}' | sort; }
kube() { kubectl --kubeconfig "$kubeconfig" "$@"; }

node_image() {
  local built
  built=$("$here/build-node-image.sh" --tag)
  if docker image inspect "$built" > /dev/null 2>&1; then
    echo "$built"  # it could not be pulled then; that is not asked again every time
  elif [ "$pulled_image" != local ] && docker image inspect "$pulled_image" > /dev/null 2>&1; then
    echo "$pulled_image"
  elif [ "$pulled_image" != local ] && can_pull "$pulled_image"; then
    docker pull -q "$pulled_image" >&2
    echo "$pulled_image"
  else
    "$here/build-node-image.sh"
  fi
}

# state IMAGE: what keeps the cluster from being used, or `works`.
state() {
  local node found
  found=$(nodes)
  [ -n "$found" ] || { echo "there is none"; return; }
  [ "$(wc -l <<< "$found")" = $((workers + 1)) ] || { echo "it has other nodes than $workers workers"; return; }
  for node in $found; do
    [ "$(docker inspect -f '{{.State.Status}} {{.Config.Image}}' "$node")" = "running $1" ] ||
      { echo "$node does not run, or on another image than $1"; return; }
  done
  [ -s "$kubeconfig" ] || { echo "its kubeconfig is gone"; return; }
  kube --request-timeout=20s get --raw /readyz > /dev/null 2>&1 || { echo "its API server is not ready"; return; }
  kube wait --for=condition=Ready node --all --timeout=20s > /dev/null 2>&1 || { echo "a node is not ready"; return; }
  kube -n kube-system rollout status deployment/coredns --timeout=60s > /dev/null 2>&1 || { echo "no DNS"; return; }
  [ -e "$cache/clusters/$name/complete" ] || { echo "its set-up was interrupted"; return; }
  echo works
}

configuration() {  # configuration IS_BUILT_HERE
  printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking: {podSubnet: "%s"' "$pods"
  # kindnet cannot be pulled where the node image cannot; and such a host may forbid what a kubelet wants to set.
  ! $1 || printf ', disableDefaultCNI: true'
  printf '}\n'
  ! $1 || printf 'featureGates: {KubeletInUserNamespace: true}\n'
  printf 'nodes:\n- role: control-plane\n'
  for _ in $(seq "$workers"); do printf -- '- role: worker\n'; done
}

# What kindnet would do: a point-to-point plugin per node, and static routes between the nodes. The routes end with a
# node's container and its addresses may change, so this is done again for a cluster that came back with its engine.
connect_pods() {
  local node other cidr address masquerade
  for node in $(nodes); do
    cidr=""
    for _ in $(seq 100); do
      cidr=$(kube get node "$node" -o jsonpath='{.spec.podCIDR}' 2> /dev/null) || true
      [ -z "$cidr" ] || break
      sleep 0.2
    done
    [ -n "$cidr" ] || die "$node got no addresses for pods"
    address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$node")
    docker exec -i "$node" tee /etc/cni/net.d/10-ptp.conflist > /dev/null <<JSON
{"cniVersion": "0.3.1", "name": "ptp", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500,
   "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state", "ranges": [[{"subnet": "$cidr"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
    for other in $(nodes); do
      [ "$other" = "$node" ] || docker exec "$other" ip route replace "$cidr" via "$address"
    done
    masquerade=(POSTROUTING -s "$cidr" ! -d "$pods" -j MASQUERADE)
    docker exec "$node" iptables -t nat -C "${masquerade[@]}" 2> /dev/null ||
      docker exec "$node" iptables -t nat -A "${masquerade[@]}"
  done
}

remove() {
  [ -z "$(nodes)" ] || kind delete cluster --name "$name" --kubeconfig "$kubeconfig" > /dev/null 2>&1
  rm -rf "$cache/clusters/$name"
}

up() {
  local image found is_built_here=false
  image=$(node_image)
  [[ $image != freehold-e2e/* ]] || is_built_here=true
  found=$(state "$image")
  if [ "$found" = works ]; then
    ! $is_built_here || connect_pods
    # What a test left behind that died in the middle of a drain.
    kube uncordon -l '!node-role.kubernetes.io/control-plane' > /dev/null
    return
  fi
  say "making the cluster $name on $image: $found"
  remove
  mkdir -p "$cache/clusters/$name"
  configuration $is_built_here |
    kind create cluster -q --name "$name" --image "$image" --kubeconfig "$kubeconfig" --config - >&2 9>&- ||
    die "kind could not make the cluster"
  ! $is_built_here || connect_pods
  kube wait --for=condition=Ready node --all --timeout=120s >&2
  kube -n kube-system rollout status deployment/coredns --timeout=120s >&2
  touch "$cache/clusters/$name/complete"
}

"$here/docker-engine.sh"
binaries kind kubectl
case $action in
  up)
    locked "cluster-$name"
    up
    echo "$kubeconfig" ;;
  down)
    locked "cluster-$name"
    remove ;;
  load)
    kind load docker-image --name "$name" "${@:3}" >&2 ;;
  prepare)
    binaries all
    node_image > /dev/null
    "$here/base-image.sh" > /dev/null ;;
  state)
    state "$(node_image)" ;;
  *)
    die "say cluster.sh up, down, load, prepare or state" ;;
esac
