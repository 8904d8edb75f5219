import { run } from '#apps/lab/process/run.ts'
import { EPOCH_SECONDS, keptLayer, keyOf, type Layer } from './layers.ts'

/** The Debian userland below all our images: what the guides call in an agent, and what the examples' pods need. */
const DEBIAN_SUITE = 'bookworm'
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
const DEBIAN = 'http://deb.debian.org'
const SOURCES = [
  `deb ${DEBIAN}/debian ${DEBIAN_SUITE} main`,
  `deb ${DEBIAN}/debian ${DEBIAN_SUITE}-updates main`,
  `deb ${DEBIAN}/debian-security ${DEBIAN_SUITE}-security main`,
]

/**
 * About 25 s and 145 MB, once per list of packages. The machine's proxies are used, and its mirror by
 * PELLICLE_DEBIAN_MIRROR (for …/debian); what is written into the image is Debian's own address.
 */
export async function baseLayer(onLine: (line: string) => void): Promise<Layer> {
  return await keptLayer('base', keyOf(1, DEBIAN_SUITE, BASE_PACKAGES, LEFT_OUT, SOURCES), async (tar) => {
    const mirror = process.env['PELLICLE_DEBIAN_MIRROR']
    const sources = mirror === undefined ? SOURCES : [`deb ${mirror} ${DEBIAN_SUITE} main`]
    const proxies = (await run('apt-config', ['dump'])).match(
      /^Acquire::[\w:.]*(Proxy|Check-Date|Check-Valid-Until)\b.*;$/gm,
    )
    const options = [
      '--variant=minbase',
      '--format=tar',
      `--include=${BASE_PACKAGES.join()}`,
      ...LEFT_OUT.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
      '--dpkgopt=path-include=/usr/share/doc/*/copyright',
      ...(proxies ?? []).map((line) => `--aptopt=${line.replace(/;$/, '').replace(/ "(.*)"$/, ' "$1"')}`),
      // settings of this machine stay here
      '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf" "$1/etc/hostname"',
      `--customize-hook=printf '%s\\n' ${SOURCES.map((line) => `'${line}'`).join(' ')} > "$1/etc/apt/sources.list"`,
    ]
    await run('mmdebstrap', [...options, DEBIAN_SUITE, tar, ...sources], {
      env: { ...process.env, SOURCE_DATE_EPOCH: String(EPOCH_SECONDS), LC_ALL: 'C.UTF-8' },
      onLine,
    })
  })
}
