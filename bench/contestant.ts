import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { TunnelLab } from '#test/kit/tunnel-lab.ts'
import type { Ends } from './ends.ts'

const exec = promisify(execFile)

/** Lets one super packet, encrypted, fit one UDP send; what our agent gives its device. wireguard-go gains by it too. */
export const GSO_MAX_SIZE = 59_000

/** As wg-quick gives it on a wire of 1,500 bytes; boringtun and gotatun begin with 1,500, and would have fragments sent. */
export const WIREGUARD_MTU = 1420

export type Wire = 'whole' | 'cut'

/** What is compared with what: ours with the others of its kind. */
export type Kind = 'none' | 'wireguard' | 'ipsec'

/** One way from end to end, ready to be measured. */
export interface Contestant {
  readonly name: string
  readonly kind: Kind
  readonly ours: boolean
  readonly ends: Ends
  /** Of the device that is measured. */
  readonly mtu: number
  /** The processes of the tunnel at ends a and b by what they are; none without a tunnel. They may be others next time. */
  processes(): Promise<readonly [Processes, Processes]>
  setWire(wire: Wire): Promise<void>
  close(): Promise<void>
}

export type Processes = Readonly<Record<string, number>>

export interface Missing {
  readonly missing: string
}

/** One that may or may not be had here. */
export interface Entry {
  readonly name: string
  /** Also with `--quick`. */
  readonly quick: boolean
  open(): Promise<Contestant | Missing>
}

/** {@link GSO_MAX_SIZE} on a device; and an MTU, where its program leaves that to whoever starts it. */
export async function limit(namespace: string, device: string, mtu?: number): Promise<void> {
  const also = mtu === undefined ? [] : ['mtu', `${mtu}`]
  await exec('ip', ['-n', namespace, 'link', 'set', device, ...also, 'gso_max_size', `${GSO_MAX_SIZE}`])
}

/**
 * `whole`: veth as it is, which hands super packets over uncut and flatters everybody who sends them. `cut`: each is
 * cut into segments on its way and joined again by the receiver's GRO; wires with real cards lie between.
 */
export async function setWire(lab: TunnelLab, prefix: string, wire: Wire): Promise<void> {
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
