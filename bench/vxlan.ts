import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'
import { type Contestant, limit, setWire } from './contestant.ts'
import { endsOf } from './ends.ts'

const exec = promisify(execFile)

/** IPv4 20, UDP 8, VXLAN 8 and Ethernet 14 bytes. */
export const VXLAN_OVERHEAD = 50
const UNDERLAY_MTU = 1500
const DEVICE = 'bnvxlan'
const PORT = 8472

/** What the two ends have on their VXLAN devices. */
export const OVERLAY = { a: '10.8.0.1', b: '10.8.0.2' } as const
const MACS = { a: '02:00:00:00:00:0a', b: '02:00:00:00:00:0b' } as const

/**
 * The kernel's device at both ends, as the agent makes `cilium_vxlan`: it learns nothing, the one peer and its address
 * are permanent. `between`: the addresses that its datagrams go by.
 */
export async function joinByVxlan(lab: TunnelLab, between: (side: Side) => string, mtu: number): Promise<void> {
  for (const [end, other] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const { namespace } = lab[end]
    const [local, remote] = [between(lab[end]), between(lab[other])]
    for (const command of [
      `link add ${DEVICE} address ${MACS[end]} mtu ${mtu} type vxlan id 2 local ${local} remote ${remote} dstport ${PORT} nolearning`,
      `link set ${DEVICE} addrgenmode none`,
      `link set ${DEVICE} up`,
      `addr add ${OVERLAY[end]}/24 dev ${DEVICE}`,
      `neigh replace ${OVERLAY[other]} lladdr ${MACS[other]} dev ${DEVICE} nud permanent`,
    ])
      await exec('ip', ['-n', namespace, ...command.split(' ')])
    await limit(namespace, DEVICE)
  }
}

/** What VXLAN alone costs: the measure of everything that goes through it. */
export async function openVxlan(): Promise<Contestant> {
  const lab = await TunnelLab.open('bnx')
  const mtu = UNDERLAY_MTU - VXLAN_OVERHEAD
  try {
    await joinByVxlan(lab, ({ outer }) => outer[4], mtu)
    return {
      name: 'VXLAN, no tunnel',
      kind: 'none',
      ours: false,
      ends: endsOf(lab, OVERLAY.b),
      mtu,
      processes: async () => [{}, {}],
      setWire: async (wire) => await setWire(lab, 'bnx', wire),
      close: async () => await lab.close(),
    }
  } catch (error) {
    await lab.close()
    throw error
  }
}
