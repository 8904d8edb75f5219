/** A kernel of Debian that tests run on: the newest that is easily had, and the oldest that we promise. */
export interface Kernel {
  readonly name: string
  /** Debian suite whose `linux-image-amd64` it is. */
  readonly suite: string
}

export const KERNELS: readonly Kernel[] = [
  { name: '6.12', suite: 'bookworm-backports' },
  { name: '6.1', suite: 'bookworm' },
]

/** Loaded before the guest's root can be mounted, in the order of their dependencies. */
export const BOOT_MODULES: readonly string[] = ['virtio_pci', '9pnet_virtio', '9p', 'overlay']

/** Folders below `lib/modules/VERSION/kernel` that the guest gets: what a network node could load, and what they need. */
export const MODULE_FOLDERS: readonly string[] = [
  'arch/x86/crypto',
  'arch/x86/lib',
  'crypto',
  'drivers/char/hw_random',
  'drivers/net/dummy.ko',
  'drivers/net/geneve.ko',
  'drivers/net/netdevsim',
  'drivers/net/nlmon.ko',
  'drivers/net/tap.ko',
  'drivers/net/tun.ko',
  'drivers/net/veth.ko',
  'drivers/net/vxlan',
  'drivers/net/wireguard',
  'drivers/virtio',
  'fs/9p',
  'fs/fscache',
  'fs/netfs',
  'fs/overlayfs',
  'lib',
  'net',
]
