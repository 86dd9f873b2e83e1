#!/usr/bin/env bash
# docker-engine.sh: see to it that a Docker engine runs that can run privileged containers. One that runs already is
# used as it is; else one is started, on a machine without any after installing Debian's.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SYS_RESOURCE=24  # the number of the capability
may_limit_resources() {
  local bounding
  bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
  ((16#$bounding >> SYS_RESOURCE & 1))
}

works() { timeout 20 docker info > /dev/null 2>&1; }

# A machine that was switched off leaves files of processes behind; by now their numbers may be somebody else's.
remove_stale_pid_files() {
  local file pid
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    [ -s "$file" ] || continue
    pid=$(cat "$file")
    case $(cat "/proc/$pid/comm" 2> /dev/null) in
      dockerd | containerd) ;;
      *) rm -f "$file" ;;
    esac
  done
}

# Its own configuration, in no file of the machine's: an engine started by anybody else is not changed.
start() {
  local options=()
  if ! may_limit_resources; then
    # Such a root may not run `docker run --privileged` as Docker asks for it; see the wrapper.
    install -D -m 755 "$here/runc-without-sys-resource" /usr/local/sbin/freehold-runc-without-sys-resource
    options=(--add-runtime limited=/usr/local/sbin/freehold-runc-without-sys-resource --default-runtime limited)
    # The same said in a file and by a flag is an error; what is said in the file counts then.
    ! grep -qs default-runtime /etc/docker/daemon.json || options=()
  fi
  remove_stale_pid_files
  mkdir -p /lib/modules  # kind mounts it into its nodes
  say "starting the Docker engine; its log is $cache/dockerd.log"
  # Not as nice as who asks for it may be: every container would inherit that.
  setsid nohup nice -n "-$(nice)" dockerd "${options[@]}" > "$cache/dockerd.log" 2>&1 < /dev/null 9>&- &
  for _ in $(seq 120); do
    ! works || return 0
    sleep 0.5
  done
  tail -20 "$cache/dockerd.log" >&2
  die "the Docker engine did not come up within a minute"
}

locked docker-engine
works && exit 0
[ "$(id -u)" = 0 ] || die "no Docker engine answers; start one, or run this as root"
command -v dockerd > /dev/null || install_packages containerd runc docker.io iptables conntrack socat iproute2 kmod
if [ -d /run/systemd/system ]; then
  systemctl start docker && works || die "systemctl start docker gave no engine that works"
else
  start
fi
