# Sourced by the scripts beside it: where the cache is, what keys it, one lock, one way to say what happens.
# Nothing here acts by itself.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${E2E_CACHE:-$HOME/.cache/freehold-e2e}

say() { echo "e2e: $*" >&2; }
die() { say "$*"; exit 1; }

# key [FILE…]: twelve hex digits that change with the content of any of the files, or with what is piped in.
key() { cat -- "$@" | sha256sum | cut -c1-12; }

# gently COMMAND…: as nice as 10, and no nicer where the caller is nice already.
gently() { nice -n $(($(nice) < 10 ? 10 - $(nice) : 0)) "$@"; }

# version MODULE REQUIRED: the version that a committed go.mod pins; the only place a version is written down.
version() {
  awk -v required="$2" '$1 == "require" && $2 == required { print $3; exit } $1 == required { print $2; exit }' \
    "$here/modules/$1/go.mod"
}

kubernetes_version() { version kubernetes k8s.io/kubernetes; }

# locked NAME: hold the lock NAME until this process ends. Whatever outlives it (a daemon) must close descriptor 9.
locked() {
  mkdir -p "$cache/locks"
  exec 9> "$cache/locks/$1"
  flock -n 9 || { say "waiting for another run that holds $cache/locks/$1"; flock 9; }
}

# binaries NAME…: build what is missing, and put the folders of all of them in front of PATH.
binaries() {
  local paths path
  paths=$("$here/build-binaries.sh" "$@") || exit 1
  while read -r _ path; do
    PATH="$(dirname "$path"):$PATH"
  done <<< "$paths"
  export PATH
}

# install_packages NAME…: Debian's, on a machine that lacks them.
install_packages() {
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || die "install $* first; only root on Debian gets them from here"
  say "installing $*"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    > "$cache/apt.log" 2>&1 < /dev/null || { tail -20 "$cache/apt.log" >&2; die "apt-get could not install $*"; }
}

# can_pull IMAGE: whether its registry answers, asked with little patience.
can_pull() { DOCKER_CLI_EXPERIMENTAL=enabled timeout 20 docker manifest inspect "$1" > /dev/null 2>&1 < /dev/null; }

# docker_build ARGUMENT…: quiet unless it fails. The old builder, because the new one pulls a base that is only here;
# the host's network, because a bridge's has no way to package registries on some machines.
docker_build() {
  DOCKER_BUILDKIT=0 gently docker build --network host "$@" > "$cache/docker-build-$$.log" 2>&1 < /dev/null ||
    { tail -40 "$cache/docker-build-$$.log" >&2; die "docker build $* failed"; }
  rm -f "$cache/docker-build-$$.log"
}
