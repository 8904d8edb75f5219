#!/bin/sh
# Process 1 of a node. Called in fresh mount, UTS, network, PID, IPC and cgroup namespaces, already in the node's cgroups:
#   init.sh FOLDER     reads FOLDER/node.env, builds the node's root and goes on there as /etc/lab/run (run.sh beside this).
# What is in FOLDER/upper lies over the machine's own files.
set -eu
folder=$1
# node, programs, store, cgroup_version, cgroup_mounts
. "$folder/node.env"
root=$folder/root

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir -p "$root/run/containerd" "$root/run/netns" "$root/run/lock" "$root/run/lab"

# The node's view of the cgroups: in the new namespace "/" is the node's own group.
if [ "$cgroup_version" = 2 ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  # processes may only be in leaves: ours go to one of their own, the kubelet makes others beside it
  mkdir -p "$root/sys/fs/cgroup/init"
  for process in $(cat "$root/sys/fs/cgroup/cgroup.procs"); do
    echo "$process" >"$root/sys/fs/cgroup/init/cgroup.procs" 2>/dev/null || true
  done
  for controller in $(cat "$root/sys/fs/cgroup/cgroup.controllers"); do
    echo "+$controller" >"$root/sys/fs/cgroup/cgroup.subtree_control" 2>/dev/null || true
  done
else
  mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
  for controllers in $cgroup_mounts; do
    mkdir "$root/sys/fs/cgroup/$controllers"
    mount -t cgroup -o "$controllers" cgroup "$root/sys/fs/cgroup/$controllers"
    case $controllers in
    *,*) for one in $(echo "$controllers" | tr , ' '); do ln -s "$controllers" "$root/sys/fs/cgroup/$one"; done ;;
    esac
  done
fi

# An overlay cannot be the upper layer of another one, so what pods write lies on the disk itself. The CNI folders are the
# node's own as well: what the machine has there must not show.
for path in var/lib/containerd var/lib/kubelet var/lib/etcd var/log/pods var/log/containers etc/cni/net.d opt/cni/bin; do
  mkdir -p "$folder/disk/$path" "$root/$path"
  mount --bind "$folder/disk/$path" "$root/$path"
done
for pair in "$programs:/usr/local/lib/kubernetes" "$store:/var/lib/pellicle-store" "$folder/log:/var/log/lab"; do
  mkdir -p "$root${pair#*:}"
  mount --bind "${pair%%:*}" "$root${pair#*:}"
done

mkdir -p "$root/.machine"
cd "$root"
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
mount --make-rshared /

exec env -i "node=$node" /bin/sh /etc/lab/run
