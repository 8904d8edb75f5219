import { packCpio } from './cpio.ts'

/** Loaded before the tests begin; what else they need the kernel asks for through /sbin/modprobe. */
const MODULES = 'wireguard esp4 esp6 xfrm_user xfrm_interface gcm vxlan veth tun dummy'

/**
 * First program of the guest: the host's root over 9p, read-only below an overlay in memory, so that the guest runs this
 * machine's own programs on another kernel and changes nothing here.
 */
const INIT = `#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod $module || echo "guest: cannot load $module"; done
share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2" || echo "guest: cannot mount $1"; }
mkdir -p /host /memory /new
share hostroot /host ro,cache=loose
mount -t tmpfs tmpfs /memory
mkdir -p /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new || echo 'guest: no overlay'
mkdir -p /new/lib/modules /new/out /new/proc /new/sys /new/dev /new/run /new/tmp
share modules /new/lib/modules ro,cache=loose
mount --move /proc /new/proc
mount --move /sys /new/sys
mount --move /dev /new/dev
mount -t tmpfs tmpfs /new/run
rm -f /new/sbin/modprobe
cp /bin/busybox /new/sbin/modprobe
cp /guest.sh /new/guest.sh
share out /new/out rw,cache=none
exec switch_root /new /bin/sh /guest.sh
`

const GUEST = `export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mkdir -p /run/netns
mount -t tmpfs tmpfs /tmp
echo /sbin/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
for module in ${MODULES}; do modprobe $module 2>>/out/modules; done
cut -d' ' -f1 /proc/uptime >/out/booted
/bin/sh /out/command >/out/stdout 2>/out/stderr
echo $? >/out/status
sync
/bin/busybox poweroff -f
`

/** @param modules in the order in which they are to be loaded */
export function initramfs(busybox: Uint8Array, modules: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder()
  const [folder, program] = [0o040755, 0o100755]
  return packCpio([
    ...['bin', 'dev', 'modules', 'proc', 'sys'].map((path) => ({ path, mode: folder })),
    { path: 'bin/busybox', mode: program, content: busybox },
    { path: 'init', mode: program, content: text.encode(INIT) },
    { path: 'guest.sh', mode: program, content: text.encode(GUEST) },
    ...modules.map((content, index) => ({
      path: `modules/${String(index).padStart(2, '0')}.ko`,
      mode: 0o100644,
      content,
    })),
  ])
}
