import { DEBIAN_SUITE, makeDebianTree, SOURCES } from './debian.ts'
import { keptLayer, keyOf, type Layer } from './layers.ts'

/** The Debian userland below all our images: what the guides call in an agent, and what the examples' pods need. */
export const BASE_PACKAGES: readonly string[] = [
  'bash',
  'ca-certificates',
  'curl',
  'iperf3',
  'iproute2',
  'iputils-ping',
  'libatomic1', // Node's own binary asks for it
  'libnftables1',
  'nftables',
  'procps',
  'tcpdump',
  'wireguard-tools',
]

const LEFT_OUT = [
  '/usr/share/doc/*',
  '/usr/share/man/*',
  '/usr/share/info/*',
  '/usr/share/locale/*',
  '/usr/share/lintian/*',
]

/** About 25 s and 145 MB, once per list of packages. */
export async function baseLayer(onLine: (line: string) => void): Promise<Layer> {
  return await keptLayer('base', keyOf(1, DEBIAN_SUITE, BASE_PACKAGES, LEFT_OUT, SOURCES), async (tar) => {
    await makeDebianTree(tar, {
      variant: 'minbase',
      packages: BASE_PACKAGES,
      format: 'tar',
      onLine,
      options: [
        ...LEFT_OUT.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
        '--dpkgopt=path-include=/usr/share/doc/*/copyright',
        // settings of this machine stay here
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf" "$1/etc/hostname"',
        `--customize-hook=printf '%s\\n' ${SOURCES.map((line) => `'${line}'`).join(' ')} > "$1/etc/apt/sources.list"`,
      ],
    })
  })
}
