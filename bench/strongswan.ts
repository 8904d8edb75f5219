import { join } from 'node:path'
import { Charon, strongswan } from '#test/kit/strongswan.ts'
import { type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type Contestant, type Missing, setWire } from './contestant.ts'
import { endsOf } from './ends.ts'

/** strongSwan's libipsec at both ends: ESP in UDP with AES-GCM-128, all in its own user space. */
export class CharonTunnel implements AsyncDisposable {
  readonly lab: TunnelLab
  readonly #tree: string
  readonly #charons = new Map<Side, Charon>()

  private constructor(lab: TunnelLab, tree: string) {
    this.lab = lab
    this.#tree = tree
  }

  static async open(prefix: string): Promise<CharonTunnel | Missing> {
    const found = await strongswan()
    if ('missing' in found) return found
    const tunnel = new CharonTunnel(await TunnelLab.open(prefix), found.tree)
    try {
      const { a, b } = tunnel.lab
      await tunnel.start(b)
      await tunnel.start(a)
      for (const side of [a, b]) await tunnel.at(side).established()
      return tunnel
    } catch (error) {
      await tunnel[Symbol.asyncDispose]()
      throw error
    }
  }

  /** End a is who begins. */
  async start(side: Side): Promise<void> {
    const { a, b } = this.lab
    const other = side === a ? b : a
    const end = {
      namespace: side.namespace,
      local: side.outer[4],
      remote: other.outer[4],
      inside: `${side.inner[4]}/32`,
      beyond: `${other.inner[4]}/32`,
    }
    const folder = join(this.lab.folder, side.namespace)
    const begin = side === a ? 'start' : 'none'
    this.#charons.set(side, await Charon.start(this.#tree, folder, end, { psk: 'bench', begin }))
  }

  at(side: Side): Charon {
    const charon = this.#charons.get(side)
    if (charon === undefined) throw new Error(`no charon was started in ${side.namespace}`)
    return charon
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // first who begins, or it would begin again
    for (const side of [this.lab.a, this.lab.b]) await this.#charons.get(side)?.stop()
    await this.lab.close()
  }
}

export async function openStrongswan(): Promise<Contestant | Missing> {
  const tunnel = await CharonTunnel.open('bns')
  if ('missing' in tunnel) return tunnel
  const { lab } = tunnel
  return {
    name: 'strongSwan libipsec',
    kind: 'ipsec',
    ours: false,
    ends: endsOf(lab, lab.b.inner[4]),
    mtu: 1400,
    processes: async () => [{ tunnel: tunnel.at(lab.a).pid }, { tunnel: tunnel.at(lab.b).pid }],
    setWire: async (wire) => await setWire(lab, 'bns', wire),
    close: async () => await tunnel[Symbol.asyncDispose](),
  }
}
