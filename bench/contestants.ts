import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { wireguardGo } from '#test/interop/wireguard-go.ts'
import { TunnelLab } from '#test/kit/tunnel-lab.ts'

const exec = promisify(execFile)

/** Lets one super packet, encrypted, fit one UDP send; what our agent gives its device. wireguard-go gains by it too. */
const GSO_MAX_SIZE = 59_000

export type Wire = 'whole' | 'cut'

/** One way from namespace to namespace, ready to be measured. */
export interface Contestant {
  readonly name: string
  readonly lab: TunnelLab
  /** Of its names. */
  readonly prefix: string
  /** Where side b is reached. */
  readonly to: string
  /** The tunnel's processes at both ends; none without a tunnel. */
  pids(): Promise<readonly number[]>
  /** One of them to look at for memory. */
  largest(): Promise<number | undefined>
}

export async function openPlain(): Promise<Contestant> {
  const prefix = 'bnp'
  const lab = await TunnelLab.open(prefix)
  const to = lab.b.outer[4]
  return { name: 'veth, no tunnel', lab, prefix, to, pids: async () => [], largest: async () => undefined }
}

/** `other`: another build of the engine to compare with. */
export async function openOurs(other?: string): Promise<Contestant> {
  return await opened(other === undefined ? 'bno' : 'bnq', async (lab) => {
    await Promise.all([lab.startOurs(lab.a, other), lab.startOurs(lab.b, other)])
    const states = async () => await Promise.all([lab.status(lab.a), lab.status(lab.b)])
    return {
      name: other === undefined ? 'pellicle' : 'pellicle, other engine',
      pids: async () => (await states()).flatMap(({ engine, keeper }) => [engine.pid, keeper.pid]),
      largest: async () => (await states())[1].engine.pid,
    }
  })
}

/** The newest wireguard-go, or why it cannot be had. */
export async function openWireguardGo(): Promise<Contestant | { missing: string }> {
  const built = await wireguardGo()
  if ('missing' in built) return built
  return await opened('bng', async (lab) => {
    const children = await Promise.all([lab.a, lab.b].map((side) => lab.startOther(side, built.program)))
    const pids = children.map(({ pid }) => pid ?? 0)
    return { name: 'wireguard-go', pids: async () => pids, largest: async () => pids[1] }
  })
}

async function opened(
  prefix: string,
  start: (lab: TunnelLab) => Promise<Pick<Contestant, 'name' | 'pids' | 'largest'>>,
): Promise<Contestant> {
  const lab = await TunnelLab.open(prefix)
  try {
    const found = await start(lab)
    for (const { namespace, device } of [lab.a, lab.b]) {
      await exec('ip', ['-n', namespace, 'link', 'set', device, 'gso_max_size', `${GSO_MAX_SIZE}`])
    }
    await lab.introduce()
    await lab.run(lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', lab.b.inner[4])
    return { ...found, lab, prefix, to: lab.b.inner[4] }
  } catch (error) {
    await lab.close()
    throw error
  }
}

/**
 * `whole`: veth as it is, which hands super packets over uncut and flatters everybody who sends them. `cut`: each is
 * cut into segments on its way and joined again by the receiver's GRO; wires with real cards lie between.
 */
export async function setWire({ lab, prefix }: Contestant, wire: Wire): Promise<void> {
  const [offload, gro] = wire === 'whole' ? ['on', 'off'] : ['off', 'on']
  for (const [side, letter] of [
    [lab.a, 'a'],
    [lab.b, 'b'],
  ] as const) {
    const features = ['tx-udp-segmentation', offload, 'tso', offload, 'gro', gro]
    await lab.run(side, 'ethtool', '-K', `${prefix}v${letter}`, ...features)
  }
}
