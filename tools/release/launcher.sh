#!/bin/sh
# pellicle wireguard [-f|--foreground] INTERFACE, or pellicle-wireguard …: a WireGuard device in user space.
# Everything it needs lies in this folder, which may be moved; links to this file may lie anywhere.
set -eu
self=$0
while [ -L "$self" ]; do
  target=$(readlink "$self")
  case $target in
  /*) self=$target ;;
  *) self=$(dirname "$self")/$target ;;
  esac
done
lib=$(CDPATH='' cd "$(dirname "$self")/../lib" && pwd -P)
case $lib in
*[[:space:]]*)
  echo "pellicle: $lib has white space in its name: move it to a folder without" >&2
  exit 1
  ;;
esac
usage() {
  echo 'usage: pellicle wireguard [-f|--foreground] INTERFACE'
  echo '       pellicle version'
}
case ${0##*/} in
pellicle-wireguard) ;;
*)
  case ${1-} in
  wireguard) shift ;;
  version | --version)
    cat "$lib/version"
    exit 0
    ;;
  -h | --help)
    usage
    exit 0
    ;;
  *)
    usage >&2
    exit 2
    ;;
  esac
  ;;
esac
# Node is linked with Debian's libraries: they are started by their own loader, whatever the machine has
node="$lib/glibc/LOADER --library-path $lib/glibc $lib/node"
exec "$lib/engine" wireguard --keeper-command "$node $lib/keeper.js" "$@"
