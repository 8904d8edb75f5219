import { Fault } from '#core/fault/fault.ts'

/** Cilium's minor releases whose packet shapes and texts are known here. */
const OLDEST = 14
const NEWEST = 20
/** From here on Cilium puts VXLAN inside WireGuard. */
const DOUBLE_ENCAPSULATION = 16

export interface Profile {
  /** As the chart's `pellicle.profile`, without a leading v. */
  readonly release: string
  /** Where this program's packets differ from that release's, by kind of encryption; to be told. */
  readonly notes: Readonly<Record<'wireguard' | 'ipsec', readonly string[]>>
}

/**
 * What `--version` asks for: which Cilium release's shapes and texts are produced. It is not the version of our chart.
 * @throws Fault `install.version`
 */
export function chooseProfile(version: string): Profile {
  const match = /^v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?([-+][0-9A-Za-z.+-]+)?$/.exec(version)
  if (match === null) throw refused(`${version} is no release such as 1.14.5`)
  const [major, minor] = [Number(match[1]), Number(match[2])]
  if (major !== 1 || minor > NEWEST)
    throw refused(`Cilium ${version} is newer than what this program knows, 1.${NEWEST}`)
  if (minor < OLDEST) throw refused(`Cilium ${version} is older than what this program knows, 1.${OLDEST}`)
  const notes: string[] = []
  if (minor >= DOUBLE_ENCAPSULATION) {
    notes.push(
      `Cilium ${major}.${minor} carries VXLAN inside WireGuard; here pods' packets go into WireGuard as they are, ` +
        `as up to 1.${DOUBLE_ENCAPSULATION - 1}`,
    )
  }
  return { release: version.replace(/^v/, ''), notes: { wireguard: notes, ipsec: [] } }
}

function refused(sentence: string): Fault {
  return new Fault('install.version', `--version: ${sentence}`, {
    field: '--version',
    remedy: `It chooses which Cilium release's packets and texts are produced, 1.${OLDEST} to 1.${NEWEST}; leave it out for our own`,
  })
}
