import { announceNode, CILIUM_NODES } from '#core/api/cilium-node.ts'
import type { IpsecWords } from '#core/ipsec/words.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { ip } from '#test/kit/snapshots.ts'

/** Writes what the agent of node `name` says of its keys; nothing else of that agent is there. */
export async function sayKeys(client: KubeClient, name: string, ipsec: IpsecWords): Promise<void> {
  const object = announceNode({
    name,
    nodeUid: '11111111-1111-1111-1111-111111111111',
    nodeIps: [ip('172.18.0.3')],
    internalIps: [],
    podCidrs: [],
    bootId: 'b',
    publicKey: undefined,
    keyId: ipsec.sends.at(-1)?.id ?? 0,
    announcement: { level: 3, epoch: 1 },
    ipsec,
  })
  await client.apply(CILIUM_NODES, object, { fieldManager: 'agent', force: true })
}
