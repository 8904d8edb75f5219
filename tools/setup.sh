#!/bin/sh
# make setup: everything that the other targets need. This part needs only a POSIX shell: it says what is missing where it
# cannot go on, installs Debian packages and the pinned npm packages (Node among them), and leaves the rest to
# tools/setup/main.ts. Nothing to do takes less than a second.
set -eu
cd "$(dirname "$0")/.."

# What shows that a Debian package is there, and its name. By the program, not by dpkg: containerd may come from Docker's
# own packages, which Debian's would replace.
PACKAGES='containerd:containerd runc:runc slirp4netns:slirp4netns mmdebstrap:mmdebstrap ip:iproute2 nft:nftables
  tcpdump:tcpdump unshare:util-linux nsenter:util-linux script:bsdutils jq:jq xxd:xxd curl:curl iperf3:iperf3
  ping:iputils-ping wg:wireguard-tools pgrep:procps openssl:openssl cc:gcc
  ncat:ncat iptables:iptables ethtool:ethtool
  /usr/lib/cni/loopback:containernetworking-plugins /etc/ssl/certs/ca-certificates.crt:ca-certificates
  /usr/include/stdio.h:libc6-dev /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring'
PATH="$PATH:/usr/sbin:/sbin"

problems=''
problem() { problems="$problems
  - $1"; }
has() { case $1 in /*) [ -e "$1" ] ;; *) command -v "$1" >/dev/null 2>&1 ;; esac; }
# at_least HAVE WANT: both dotted numbers
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

[ "$(uname -s)" = Linux ] || problem "this is $(uname -s): the lab needs Linux. Run it on a Linux machine, or in a virtual one"
[ "$(uname -m)" = x86_64 ] || problem "this is $(uname -m): the pinned Node is built for x86_64. Run it on an x86_64 machine"
[ "$(id -u)" = 0 ] || problem "not root: namespaces, mounts and packages need it. Run it as root (sudo make setup)"
has apt-get || problem 'no apt-get: packages come from Debian or Ubuntu. Run it on one of them, or in a container of one'
go=$(go env GOVERSION 2>/dev/null || true)
at_least "${go#go}" 1.26 || problem "${go:-no go} on PATH: Kubernetes is built from Go modules. Install Go 1.26 or newer (https://go.dev/dl)"
rust=$(rustc --version 2>/dev/null | cut -d' ' -f2)
rustup='the engine is written in Rust. Install Rust 1.89 or newer (https://rustup.rs)'
has cargo || problem "no cargo on PATH: $rustup"
at_least "${rust:-0}" 1.89 || problem "${rust:-no} rustc on PATH: $rustup"
has npm || problem "no npm on PATH: install Node's npm (apt-get install npm)"
[ -c /dev/net/tun ] || problem 'no /dev/net/tun: load the module tun, or give the container --device /dev/net/tun'
if [ "$(id -u)" = 0 ] && has unshare && ! unshare -m -u -n -p -i -C -f true 2>/dev/null; then
  problem 'namespaces cannot be made here: run on a machine, or in a container with --privileged'
fi
if [ -n "$problems" ]; then
  printf 'setup cannot go on:%s\n' "$problems" >&2
  exit 1
fi

missing=''
for entry in $PACKAGES; do
  has "${entry%%:*}" || missing="$missing ${entry#*:}"
done
if [ -n "$missing" ]; then
  started=$(date +%s)
  echo " • Debian packages:$missing ..." >&2
  # containerd and the like are only to be there: a policy that says no keeps their services from being started
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
  else
    policy=''
  fi
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --no-remove $missing; } >"$log" 2>&1; then
    tail -15 "$log" >&2
    echo "setup cannot go on: apt-get could not install$missing (the whole log: $log)" >&2
    exit 1
  fi
  rm -f "$log"
  # the shell is replaced below, so the trap would never come to it
  [ -z "$policy" ] || rm -f "$policy"
  trap - EXIT INT TERM
  echo " ✓ Debian packages ($(($(date +%s) - started)) s)" >&2
fi

# `npm ci` refuses lockfiles from registries that lack other platforms' packages; `install --no-save` takes exactly the
# pinned versions and leaves the lockfile as it is. No package's install script is run.
stamp=node_modules/.pellicle-setup
want=$(cat package.json package-lock.json | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
  started=$(date +%s)
  echo ' • npm packages ...' >&2
  log=$(mktemp)
  if ! npm install --no-save --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
    tail -15 "$log" >&2
    echo "setup cannot go on: npm could not install the packages (the whole log: $log)" >&2
    exit 1
  fi
  rm -f "$log"
  # two packages carry a program of this name; the one that is meant is pinned by its alias
  pinned=$(sed -n 's/.*"@typescript\/native": "npm:typescript@\([^"]*\)".*/\1/p' package.json)
  tsc=$(PATH="$PWD/node_modules/.bin:$PATH" node_modules/.bin/tsc --version)
  if [ "$tsc" != "Version $pinned" ]; then
    echo "setup cannot go on: node_modules/.bin/tsc says \"$tsc\" instead of \"Version $pinned\". Remove node_modules and try again" >&2
    exit 1
  fi
  printf '%s' "$want" >"$stamp"
  echo " ✓ npm packages ($(($(date +%s) - started)) s)" >&2
fi

exec node_modules/.bin/node tools/setup/main.ts "$@"
