import { run } from '#apps/lab/process/run.ts'
import { EPOCH_SECONDS } from './layers.ts'

/** What our images, the release and the bench's peers take from Debian. */
export const DEBIAN_SUITE = 'bookworm'
const DEBIAN = 'http://deb.debian.org'
export const SOURCES: readonly string[] = [
  `deb ${DEBIAN}/debian ${DEBIAN_SUITE} main`,
  `deb ${DEBIAN}/debian ${DEBIAN_SUITE}-updates main`,
  `deb ${DEBIAN}/debian-security ${DEBIAN_SUITE}-security main`,
]

export interface DebianTree {
  /** `minbase`: a small userland, installed. `extract`: only unpacked, so of any architecture. */
  readonly variant: 'minbase' | 'extract'
  readonly packages: readonly string[]
  /** In Debian's word; the machine's own without it. */
  readonly architecture?: string
  readonly format: 'tar' | 'directory'
  readonly options?: readonly string[]
  readonly onLine?: ((line: string) => void) | undefined
}

/**
 * Runs mmdebstrap. The machine's proxies are used, and its mirror by PELLICLE_DEBIAN_MIRROR (for …/debian); what is
 * written into the tree is Debian's own address.
 */
export async function makeDebianTree(target: string, tree: DebianTree): Promise<void> {
  const mirror = process.env['PELLICLE_DEBIAN_MIRROR']
  const sources = mirror === undefined ? SOURCES : [`deb ${mirror} ${DEBIAN_SUITE} main`]
  const proxies = (await run('apt-config', ['dump'])).match(
    /^Acquire::[\w:.]*(Proxy|Check-Date|Check-Valid-Until)\b.*;$/gm,
  )
  const options = [
    `--variant=${tree.variant}`,
    `--format=${tree.format}`,
    ...(tree.packages.length === 0 ? [] : [`--include=${tree.packages.join()}`]),
    ...(tree.architecture === undefined ? [] : [`--architectures=${tree.architecture}`]),
    ...(proxies ?? []).map((line) => `--aptopt=${line.replace(/;$/, '').replace(/ "(.*)"$/, ' "$1"')}`),
    ...(tree.options ?? []),
  ]
  const { onLine } = tree
  await run('mmdebstrap', [...options, DEBIAN_SUITE, target, ...sources], {
    env: { ...process.env, SOURCE_DATE_EPOCH: String(EPOCH_SECONDS), LC_ALL: 'C.UTF-8' },
    ...(onLine === undefined ? {} : { onLine }),
  })
}
