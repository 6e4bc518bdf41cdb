#!/usr/bin/env bash
# Runs a command with a Docker engine and a Python base image: tests/containers/engine.sh COMMAND [ARGUMENT…]
# Takes the engine that is reached, else one that runs here, else starts Debian's (as root) and stops it again.
# Where no registry is reached the base is Debian's Python with this machine's certificates, made by debootstrap.
# Says LEFT OUT and ends with 0 where there can be neither.
set -euo pipefail

home=${XDG_CACHE_HOME:-$HOME/.cache}/hanlin-containers
docker=docker
[ -x /usr/bin/docker ] && docker=/usr/bin/docker
mkdir -p "$home"

left_out() { echo "LEFT OUT: the tests of the containers: $1"; exit 0; }
reached() { "$docker" info >/dev/null 2>&1; }
debian() { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; }

# An engine that runs, wherever its socket is.
running() {
  reached && return
  local socket
  while read -r socket; do
    DOCKER_HOST=unix://$socket reached && export DOCKER_HOST=unix://$socket && return
  done < <(awk '$4 == "00010000" && /docker\.sock$/ {print $NF}' /proc/net/unix 2>/dev/null | sort -u)
  return 1
}

start() {
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    left_out "there is no Docker engine, and none can be started"
  fi
  if ! command -v dockerd >/dev/null || ! command -v docker-compose >/dev/null; then
    debian docker.io docker-compose iptables >"$home/apt.log" 2>&1 || left_out "Debian's docker.io cannot be installed"
    docker=/usr/bin/docker
  fi
  export DOCKER_HOST=unix://$home/docker.sock
  dockerd --host "$DOCKER_HOST" --data-root "$home/data" --exec-root "$home/exec" --pidfile "$home/dockerd.pid" \
    >"$home/dockerd.log" 2>&1 &
  engine=$!
  trap 'kill "$engine" && wait "$engine" || true' EXIT
  for _ in $(seq 60); do
    reached && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 1
  done
  left_out "dockerd does not start here: $(tail -n 1 "$home/dockerd.log")"
}

# PYTHON_IMAGE, where it is named or can be had; else one made of Debian's packages.
base() {
  local image=${PYTHON_IMAGE:-$(sed -n 's/^ARG PYTHON_IMAGE=//p' "$(dirname "$0")/../../Dockerfile")}
  local root=$home/root certificates=/etc/ssl/certs/ca-certificates.crt
  if "$docker" image inspect "$image" >/dev/null 2>&1 || "$docker" pull --quiet "$image" >/dev/null 2>&1; then
    export PYTHON_IMAGE=$image
    return
  fi
  export PYTHON_IMAGE=hanlin-python:bookworm
  "$docker" image inspect "$PYTHON_IMAGE" >/dev/null 2>&1 && return
  command -v debootstrap >/dev/null || debian debootstrap >"$home/apt.log" 2>&1 || left_out "no base image can be had"
  rm -rf "$root"
  debootstrap --variant=minbase --include=python3-venv,python3-pip,ca-certificates bookworm "$root" \
    >"$home/debootstrap.log" 2>&1 || left_out "no base image can be made: $(tail -n 1 "$home/debootstrap.log")"
  cp "$certificates" "$root$certificates"
  tar -C "$root" -c . | "$docker" import --change "ENV PIP_CERT=$certificates SSL_CERT_FILE=$certificates" \
    - "$PYTHON_IMAGE" >/dev/null
  rm -rf "$root"
}

# What is built reaches the registries of packages as this machine does.
export HANLIN_BUILD_OPTIONS=${HANLIN_BUILD_OPTIONS:---network=host}
running || start
base
"$@"
