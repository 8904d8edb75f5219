import assert from 'node:assert/strict'
import { test } from 'node:test'
import { announceNode, type CiliumNode } from '#core/api/cilium-node.ts'
import { type AgentConfig, parseConfig } from '#core/api/config.ts'
import { type NodeFacts, readNode } from '#core/api/node.ts'
import { internalIpsOf, keyOf, nodeIpsOf, podCidrsOf } from '#test/kit/snapshots.ts'
import { essence } from './node-watch.ts'
import { type Known, View } from './view.ts'

function configOf(data: Record<string, string> = {}): AgentConfig {
  const parsed = parseConfig({ 'pellicle-cluster-cidrs': '10.224.0.0/11', ...data })
  assert.ok(parsed.ok)
  return parsed.value.config
}

const nodeOf = (n: number, labels: Record<string, string> = {}): NodeFacts =>
  readNode(
    essence({
      metadata: { name: `node-${n}`, uid: `uid-${n}`, labels },
      spec: { podCIDRs: podCidrsOf(n), providerID: 'x' },
      status: {
        addresses: [
          { type: 'Hostname', address: `node-${n}` },
          { type: 'InternalIP', address: nodeIpsOf(n)[4] },
        ],
        conditions: [{ type: 'Ready', status: 'True' }],
      },
    }),
  )

const ciliumNodeOf = (n: number): CiliumNode =>
  announceNode({
    name: `node-${n}`,
    nodeUid: `uid-${n}`,
    nodeIps: [nodeIpsOf(n)[4]],
    internalIps: [internalIpsOf(n)[4]],
    podCidrs: podCidrsOf(n),
    publicKey: keyOf(n),
    keyId: 255,
    bootId: '11111111-1111-4111-8111-111111111111',
    announcement: { level: 3, epoch: 1 },
  })

const known = (config: AgentConfig, ciliumNodes: readonly CiliumNode[], nodes: readonly NodeFacts[]): Known => ({
  config,
  node: nodeOf(1),
  ciliumNodes,
  nodes: new Map(nodes.map((node) => [node.name, node])),
  endpoints: [],
  podCidrs: podCidrsOf(1),
  internalIps: internalIpsOf(1),
  underlay: { device: 'eth0', mtu: 1500 },
  publicKey: keyOf(1),
  ipsec: undefined,
  mode: undefined,
  stage: undefined,
  byKernel: false,
  announcement: { level: 3, epoch: 1 },
})

test('a peer is what its CiliumNode claims, beside what its Node grants, whichever comes first', () => {
  const view = new View()
  const config = configOf()
  const said = [ciliumNodeOf(2), ciliumNodeOf(3)]
  const nodes = [nodeOf(2), nodeOf(3, { 'node-role.kubernetes.io/control-plane': '' })]
  const early = view.snapshot(known(config, said, nodes.slice(0, 1))).peers
  assert.deepEqual(early[0]?.granted, { podCidrs: podCidrsOf(2), nodeIps: [nodeIpsOf(2)[4]], optedOut: false })
  assert.equal(early[1]?.granted, undefined)
  const late = view.snapshot(known(config, said, nodes)).peers
  assert.equal(late[0], early[0], 'the same object, so that nothing is planned again')
  assert.equal(late[1]?.granted?.optedOut, true, 'by default the control plane')
  assert.equal(view.snapshot(known(config, said, nodes)).peers, late)
  const nobody = configOf({ 'node-encryption-opt-out-labels': '' })
  assert.equal(view.snapshot(known(nobody, said, nodes)).peers[1]?.granted?.optedOut, false)
  assert.equal(view.snapshot(known(nobody, said, [])).peers[1]?.granted, undefined, 'its Node was deleted')
})
