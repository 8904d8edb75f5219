#!/bin/sh
# Holds the network that the nodes share: a bridge in a network namespace of its own, which is also their way outside (tap0
# comes from slirp4netns). The machine's own network is not touched. Called: underlay.sh ADDRESS/LENGTH...
set -eu
ip link set lo up
ip link add underlay type bridge stp_state 0 mcast_snooping 0
for address in "$@"; do
  case $address in
  *:*) ip -6 address add "$address" dev underlay nodad ;;
  *) ip address add "$address" dev underlay ;;
  esac
done
ip link set underlay up
echo 1 >/proc/sys/net/ipv4/ip_forward
if [ -w /proc/sys/net/ipv6/conf/all/forwarding ]; then echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; fi
nft -f - <<'N'
table inet lab {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "tap0" masquerade
  }
}
N
echo ready >&3
exec 3>&-
exec sleep infinity
