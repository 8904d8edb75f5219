import type { ChildProcess } from 'node:child_process'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type Contestant, limit, setWire } from './contestant.ts'
import { endsOf } from './ends.ts'
import { type IpsecEnd, type IpsecJoined, joinByIpsec } from './ipsec.ts'
import { joinByVxlan, OVERLAY, VXLAN_OVERHEAD } from './vxlan.ts'

/** One way in which our ESP goes on the wire (docs/adr/0008). */
export interface EspShape {
  readonly name: string
  /** Makes names of namespaces unique. */
  readonly letter: string
  /** Also with `--quick`. */
  readonly quick: boolean
  readonly shape: IpsecShape
  /** Of the engine's device. */
  readonly mtu: number
}

const MTU = 1420
/** What the agent gives its device under a VXLAN device of 1450 bytes: room for every algorithm. */
const MTU_IN_VXLAN = 1358
const VXLAN_MTU = 1450

export const ESP_IN_UDP: EspShape = { name: 'pellicle ESP in UDP', letter: 'u', quick: true, shape: 'udp', mtu: MTU }
export const ESP: EspShape = { name: 'pellicle ESP', letter: 'e', quick: true, shape: 'esp', mtu: MTU }
export const ESP_SHAPES: readonly EspShape[] = [
  ESP_IN_UDP,
  ESP,
  { name: 'pellicle ESP in VXLAN', letter: 'i', quick: true, shape: 'esp-in-vxlan', mtu: MTU_IN_VXLAN },
  { name: 'pellicle VXLAN in ESP', letter: 'w', quick: false, shape: 'vxlan-in-esp', mtu: MTU },
]

/** Two engines of ours with AES-GCM-128, keys given by hand: what carries pods' packets when encryption is IPsec. */
export class EspTunnel implements AsyncDisposable {
  readonly lab: TunnelLab
  /** End b, through the tunnel. */
  readonly to: string
  readonly #shape: EspShape
  readonly #ends = new Map<Side, { readonly end: IpsecEnd; readonly supervisor: ChildProcess }>()
  #joined: IpsecJoined | undefined

  private constructor(lab: TunnelLab, shape: EspShape) {
    this.lab = lab
    this.to = shape.shape === 'vxlan-in-esp' ? OVERLAY.b : lab.b.inner[4]
    this.#shape = shape
  }

  static async open(prefix: string, shape: EspShape): Promise<EspTunnel> {
    const tunnel = new EspTunnel(await TunnelLab.open(prefix), shape)
    try {
      const { lab } = tunnel
      for (const side of [lab.a, lab.b]) await tunnel.start(side)
      if (shape.shape === 'esp-in-vxlan') await joinByVxlan(lab, ({ outer }) => outer[4], VXLAN_MTU)
      // in a cluster its datagrams go between node addresses, and a mark leads them here: the same bytes, the same work
      if (shape.shape === 'vxlan-in-esp') await joinByVxlan(lab, ({ inner }) => inner[4], shape.mtu - VXLAN_OVERHEAD)
      await tunnel.join()
      await lab.run(lab.a, 'ping', '-n', '-q', '-c', '1', '-w', '10', tunnel.to)
      return tunnel
    } catch (error) {
      await tunnel[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Supervisor and engine of one end, which know nobody yet. */
  async start(side: Side): Promise<void> {
    const { shape, mtu } = this.#shape
    const { supervisor, socket } = await this.lab.startIpsec(side, mtu)
    await limit(side.namespace, side.device)
    const outer = shape === 'esp-in-vxlan' ? OVERLAY[side === this.lab.a ? 'a' : 'b'] : side.outer[4]
    this.#ends.set(side, { end: { side, socket, outer }, supervisor })
  }

  /** Gives both ends keys, whatever they had before. */
  async join(): Promise<void> {
    const [a, b] = [this.#ends.get(this.lab.a), this.#ends.get(this.lab.b)]
    if (a === undefined || b === undefined) throw new Error('both ends have to be started first')
    this.#joined?.close()
    this.#joined = await joinByIpsec([a.end, b.end], this.#shape.shape === 'udp' ? 'udp' : 'none')
  }

  async rotate(): Promise<void> {
    await this.#joined?.rotate()
  }

  /** Of one end, by what they are. */
  async processes(side: Side): Promise<{ readonly engine: number; readonly supervisor: number }> {
    const { engine } = await this.lab.status(side)
    return { engine: engine.pid, supervisor: this.#ends.get(side)?.supervisor.pid ?? 0 }
  }

  supervisor(side: Side): ChildProcess | undefined {
    return this.#ends.get(side)?.supervisor
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#joined?.close()
    await this.lab.close()
  }
}

export async function openOurIpsec(shape: EspShape): Promise<Contestant> {
  const prefix = `bn${shape.letter}`
  const tunnel = await EspTunnel.open(prefix, shape)
  const { lab, to } = tunnel
  return {
    name: shape.name,
    kind: 'ipsec',
    ours: true,
    ends: endsOf(lab, to),
    mtu: shape.shape === 'vxlan-in-esp' ? shape.mtu - VXLAN_OVERHEAD : shape.mtu,
    processes: async () => [await tunnel.processes(lab.a), await tunnel.processes(lab.b)],
    setWire: async (wire) => await setWire(lab, prefix, wire),
    close: async () => await tunnel[Symbol.asyncDispose](),
  }
}
