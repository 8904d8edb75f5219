import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { wireguardGo } from '#test/interop/wireguard-go.ts'
import { boringtun, debianWireguardGo, type Found, gotatun } from '#test/kit/peers.ts'
import { Charon, strongswan } from '#test/kit/strongswan.ts'
import { TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type Ends, endsOf } from './ends.ts'
import { joinByIpsec } from './ipsec.ts'

const exec = promisify(execFile)

/** Lets one super packet, encrypted, fit one UDP send; what our agent gives its device. wireguard-go gains by it too. */
export const GSO_MAX_SIZE = 59_000

export type Wire = 'whole' | 'cut'

/** What is compared with what: ours with the others of its kind. */
export type Kind = 'none' | 'wireguard' | 'ipsec'

/** One way from end to end, ready to be measured. */
export interface Contestant {
  readonly name: string
  readonly kind: Kind
  readonly ours: boolean
  readonly ends: Ends
  /** The processes of the tunnel at ends a and b by what they are; none without a tunnel. They may be others next time. */
  processes(): Promise<readonly [Processes, Processes]>
  setWire(wire: Wire): Promise<void>
  close(): Promise<void>
}

export type Processes = Readonly<Record<string, number>>

interface Missing {
  readonly missing: string
}

/** One that may or may not be had here. */
export interface Entry {
  readonly name: string
  /** Also with `--quick`. */
  readonly quick: boolean
  open(): Promise<Contestant | Missing>
}

export function entries(other: string | undefined): readonly Entry[] {
  return [
    { name: 'veth, no tunnel', quick: true, open: openPlain },
    wireguardEntry('wireguard-go', 'bng', wireguardGo, { quick: true }),
    wireguardEntry("wireguard-go, Debian's", 'bnd', debianWireguardGo),
    // they leave root by themselves unless told not to, which our namespaces do not survive
    wireguardEntry('boringtun', 'bnb', boringtun, { env: { WG_SUDO: 'true' } }),
    wireguardEntry('gotatun', 'bnt', gotatun, { env: { WG_SUDO: 'true', WG_LOG_LEVEL: 'error' } }),
    { name: 'strongSwan libipsec', quick: true, open: openStrongswan },
    {
      name: 'pellicle ESP in UDP',
      quick: true,
      open: async () => await openOurIpsec('pellicle ESP in UDP', 'bnu', 'udp'),
    },
    { name: 'pellicle ESP', quick: true, open: async () => await openOurIpsec('pellicle ESP', 'bne', 'none') },
    { name: 'pellicle', quick: true, open: async () => await openOurs('pellicle', 'bno') },
    ...(other === undefined
      ? []
      : [
          {
            name: 'pellicle, other engine',
            quick: true,
            open: async () => await openOurs('pellicle, other engine', 'bnq', other),
          },
        ]),
  ]
}

function wireguardEntry(
  name: string,
  prefix: string,
  find: () => Promise<Found>,
  { quick = false, env = {} }: { quick?: boolean; env?: Record<string, string> } = {},
): Entry {
  return {
    name,
    quick,
    open: async () => {
      const found = await find()
      if ('missing' in found) return found
      return await openWireguard(name, prefix, false, async (lab) => {
        const children = await Promise.all([lab.a, lab.b].map((side) => lab.startOther(side, found.program, env)))
        const [a, b] = children.map((child) => ({ tunnel: child.pid ?? 0 }))
        return async () => [a ?? {}, b ?? {}]
      })
    },
  }
}

async function openPlain(): Promise<Contestant> {
  const lab = await TunnelLab.open('bnp')
  return {
    name: 'veth, no tunnel',
    kind: 'none',
    ours: false,
    ends: endsOf(lab, lab.b.outer[4]),
    processes: async () => [{}, {}],
    setWire: async (wire) => await setWire(lab, 'bnp', wire),
    close: async () => await lab.close(),
  }
}

/** `program`: another build of the engine to compare with. */
async function openOurs(name: string, prefix: string, program?: string): Promise<Contestant> {
  return await openWireguard(name, prefix, true, async (lab) => {
    const supervisors = await Promise.all([lab.a, lab.b].map((side) => lab.startOurs(side, program)))
    const of = async (index: 0 | 1) => {
      const { engine, keeper } = await lab.status([lab.a, lab.b][index] as TunnelLab['a'])
      return { engine: engine.pid, keeper: keeper.pid, supervisor: supervisors[index]?.pid ?? 0 }
    }
    return async () => [await of(0), await of(1)]
  })
}

async function openWireguard(
  name: string,
  prefix: string,
  ours: boolean,
  start: (lab: TunnelLab) => Promise<Contestant['processes']>,
): Promise<Contestant> {
  const lab = await TunnelLab.open(prefix)
  try {
    const processes = await start(lab)
    for (const { namespace, device } of [lab.a, lab.b]) await limit(namespace, device)
    await lab.introduce()
    await lab.run(lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', lab.b.inner[4])
    return {
      name,
      kind: 'wireguard',
      ours,
      ends: endsOf(lab, lab.b.inner[4]),
      processes,
      setWire: async (wire) => await setWire(lab, prefix, wire),
      close: async () => await lab.close(),
    }
  } catch (error) {
    await lab.close()
    throw error
  }
}

/** Two engines of ours with AES-GCM-128, keys given by hand: what carries pods' packets when encryption is IPsec. */
async function openOurIpsec(name: string, prefix: string, encapsulation: 'udp' | 'none'): Promise<Contestant> {
  const lab = await TunnelLab.open(prefix)
  let joined: AsyncDisposable | undefined
  const close = async () => {
    await joined?.[Symbol.asyncDispose]()
    await lab.close()
  }
  try {
    const ends = [
      { side: lab.a, ...(await lab.startIpsec(lab.a)) },
      { side: lab.b, ...(await lab.startIpsec(lab.b)) },
    ] as const
    for (const { namespace, device } of [lab.a, lab.b]) await limit(namespace, device)
    joined = await joinByIpsec([...ends], encapsulation)
    await lab.run(lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', lab.b.inner[4])
    const of = async (index: 0 | 1) => {
      const { side, supervisor } = ends[index]
      return { engine: (await lab.status(side)).engine.pid, supervisor: supervisor.pid ?? 0 }
    }
    return {
      name,
      kind: 'ipsec',
      ours: true,
      ends: endsOf(lab, lab.b.inner[4]),
      processes: async () => [await of(0), await of(1)],
      setWire: async (wire) => await setWire(lab, prefix, wire),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

async function limit(namespace: string, device: string): Promise<void> {
  await exec('ip', ['-n', namespace, 'link', 'set', device, 'gso_max_size', `${GSO_MAX_SIZE}`])
}

/** ESP in UDP with AES-GCM-128, all in its own user space. */
async function openStrongswan(): Promise<Contestant | Missing> {
  const found = await strongswan()
  if ('missing' in found) return found
  const lab = await TunnelLab.open('bns')
  const charons: Charon[] = []
  const close = async () => {
    for (const charon of charons) await charon.stop()
    await lab.close()
  }
  try {
    for (const [side, other, begin] of [
      [lab.b, lab.a, 'none'],
      [lab.a, lab.b, 'start'],
    ] as const) {
      const { namespace, outer, inner } = side
      const addresses = {
        local: outer[4],
        remote: other.outer[4],
        inside: `${inner[4]}/32`,
        beyond: `${other.inner[4]}/32`,
      }
      const folder = join(lab.folder, namespace)
      charons.unshift(await Charon.start(found.tree, folder, { namespace, ...addresses }, { psk: 'bench', begin }))
    }
    for (const charon of charons) await charon.established()
    const pids = charons.map(({ pid }) => ({ tunnel: pid }))
    return {
      name: 'strongSwan libipsec',
      kind: 'ipsec',
      ours: false,
      ends: endsOf(lab, lab.b.inner[4]),
      processes: async () => [pids[0] ?? {}, pids[1] ?? {}],
      setWire: async (wire) => await setWire(lab, 'bns', wire),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/**
 * `whole`: veth as it is, which hands super packets over uncut and flatters everybody who sends them. `cut`: each is
 * cut into segments on its way and joined again by the receiver's GRO; wires with real cards lie between.
 */
async function setWire(lab: TunnelLab, prefix: string, wire: Wire): Promise<void> {
  for (const [side, letter] of [
    [lab.a, 'a'],
    [lab.b, 'b'],
  ] as const) {
    await lab.run(side, 'ethtool', '-K', `${prefix}v${letter}`, ...wireFeatures(wire))
  }
}

/** For `ethtool -K` on the devices at both ends of the wire. */
export function wireFeatures(wire: Wire): readonly string[] {
  const [offload, gro] = wire === 'whole' ? ['on', 'off'] : ['off', 'on']
  return ['tx-udp-segmentation', offload, 'tso', offload, 'gro', gro]
}
