import { readdir } from 'node:fs/promises'
import { Fault } from '#core/fault/fault.ts'

/**
 * `encryption.ipsec.interface` names a device that this node does not have: Cilium's sentence, the value, and what there
 * is. Nothing else follows from the value: encrypted packets leave by whichever device routes to the other node, and are
 * taken from whichever they come by.
 */
export async function missingInterface(device: string, folder = '/sys/class/net'): Promise<Fault | undefined> {
  const all = await readdir(folder)
  if (all.includes(device)) return undefined
  const there = all.filter((name) => !/^(lo|lxc.*|veth.*|cilium_.*|pellicle_.*|kube-.*|bonding_masters)$/.test(name))
  const names = there.length === 0 ? 'ethX' : there.toSorted().join('|')
  return new Fault('ipsec.interface', `Device ${device} does not exist`, {
    field: 'encryption.ipsec.interface',
    remedy:
      `--set encryption.ipsec.interface=${names} names one that this node has; or leave it out (and devices too): ` +
      'encrypted packets are taken from whichever device they come by',
  })
}
