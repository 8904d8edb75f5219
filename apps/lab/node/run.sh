#!/bin/sh
# Process 1 of a node once its root stands (see init.sh): names it, sets its kernel's switches, runs its services, starts again
# what ends, and collects orphans. Says `ready` on descriptor 3.
set -eu
hostname "$node"
export HOSTNAME="$node" HOME=/root PATH=/usr/local/lib/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The kubelet sets these for the whole kernel where they differ: it is shown its own values, the machine keeps its.
mkdir -p /run/lab/sysctl
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  path=${pair%%=*}
  shown=/run/lab/sysctl/$(echo "$path" | tr / .)
  echo "${pair##*=}" >"$shown"
  mount --bind "$shown" "/proc/sys/$path"
done

ip link set lo up
set_sysctl() { if [ -w "/proc/sys/$1" ]; then echo "$2" >"/proc/sys/$1"; fi; }
set_sysctl net/ipv4/ip_forward 1
set_sysctl net/ipv6/conf/all/forwarding 1
set_sysctl net/ipv6/conf/default/forwarding 1
set_sysctl net/ipv6/conf/default/accept_dad 0
set_sysctl net/ipv6/conf/all/accept_dad 0

# service NAME COMMAND...: waits for somebody to write to its gate, runs the command, and again whenever it ends.
service() {
  name=$1
  shift
  mkfifo "/run/lab/$name.gate"
  (
    exec 3>&- >>"/var/log/lab/$name.log" 2>&1 </dev/null
    read -r _ <"/run/lab/$name.gate" || true
    while :; do
      code=0
      "$@" || code=$?
      echo "lab: $name ended with $code, is started again in a second"
      sleep 1
    done
  ) &
}
. /etc/lab/services

echo ready >&3
exec 3>&-
trap 'exit 0' TERM INT
# waits and collects what others left behind, for as long as the node lives
while :; do
  sleep 86400 &
  wait $! || true
done
