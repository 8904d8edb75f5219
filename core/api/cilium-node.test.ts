import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import type { KeyFingerprint } from '#core/ipsec/key.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { announceNode, parseCiliumNode, readCiliumNode } from './cilium-node.ts'
import { readNode } from './node.ts'

const KEY = publicKeyOf(new Uint8Array(32).fill(7))

const OWN = {
  name: 'kind-worker',
  nodeUid: 'u-1',
  nodeIps: [requireIp('172.18.0.3', 'ip'), requireIp('fd00::3', 'ip')],
  internalIps: [requireIp('10.244.1.1', 'ip')],
  podCidrs: [requireCidr('10.244.1.0/24', 'cidr')],
  bootId: '2b9a0f7e-0000-4000-8000-000000000000',
  publicKey: KEY,
  keyId: 255,
  announcement: { level: 2, epoch: 1 },
} as const

test('what a node announces is what the others read', () => {
  const read = readCiliumNode(announceNode(OWN))
  assert.deepEqual(read.nodeIps, OWN.nodeIps)
  assert.deepEqual(read.internalIps, OWN.internalIps)
  assert.deepEqual(read.podCidrs, OWN.podCidrs)
  assert.equal(read.publicKey, KEY)
  assert.equal(read.keyId, 255)
  assert.deepEqual(read.announcement, { level: 2, epoch: 1 })
  assert.equal(read.bootId, OWN.bootId)
  assert.deepEqual(read.problems, [])
})

test('words about IPsec keys go by an annotation, and malformed ones are told', () => {
  const keys = [{ id: 3, fingerprint: '0123456789abcdef' as KeyFingerprint }]
  const node = announceNode({ ...OWN, publicKey: undefined, keyId: 3, ipsec: { receives: keys, sends: [] } })
  assert.equal(node.metadata.annotations?.['pellicle.io/ipsec-keys'], 'receives=3:0123456789abcdef sends=')
  const read = readCiliumNode(node)
  assert.deepEqual([read.ipsec, read.keyId, read.problems], [{ receives: keys, sends: [] }, 3, []])
  const annotations = { 'pellicle.io/ipsec-keys': 'receives=16:0123456789abcdef sends=' }
  const wrong = readCiliumNode({ ...node, metadata: { ...node.metadata, annotations } })
  assert.equal(wrong.ipsec, undefined)
  assert.deepEqual(
    wrong.problems.map(({ code }) => code),
    ['node.ipsec-keys'],
  )
  assert.equal(readCiliumNode(announceNode(OWN)).ipsec, undefined)
})

test('key id 0 and no public key are published as absent', () => {
  const node = announceNode({ ...OWN, keyId: 0, publicKey: undefined, announcement: undefined })
  assert.equal('encryption' in node.spec, false)
  assert.deepEqual(node.metadata.annotations, {})
  assert.equal(readCiliumNode(node).publicKey, undefined)
})

test('the old name of the annotation is read, the new one wins', () => {
  const node = announceNode({ ...OWN, publicKey: undefined, annotations: { 'io.cilium.network.wg-pub-key': KEY } })
  assert.equal(readCiliumNode(node).publicKey, KEY)
})

test('one wrong part is told and hides nothing else', () => {
  const node = announceNode(OWN)
  const read = readCiliumNode({
    ...node,
    metadata: { ...node.metadata, annotations: { 'network.cilium.io/wg-pub-key': 'AAAA', 'pellicle.io/x': 'y' } },
    spec: {
      addresses: [
        { type: 'InternalIP', ip: '172.18.0.300' },
        { type: 'InternalIP', ip: '172.18.0.4' },
      ],
      ipam: { podCIDRs: ['10.244.1.0', '10.244.2.0/24'] },
    },
  })
  assert.deepEqual(read.nodeIps, ['172.18.0.4'])
  assert.deepEqual(read.podCidrs, ['10.244.2.0/24'])
  assert.equal(read.publicKey, undefined)
  assert.equal(read.publicKeyText, 'AAAA')
  assert.deepEqual(
    read.problems.map((problem) => problem.field),
    ['spec.ipam.podCIDRs[0]', 'metadata.annotations.network.cilium.io/wg-pub-key', 'spec.addresses[0].ip'],
  )
})

test('a malformed object is refused by its path, an unknown field is kept', () => {
  const bad = parseCiliumNode({ metadata: { name: 'x' }, spec: { encryption: { key: 256 } } })
  assert(!bad.ok)
  assert.equal(bad.error.field, 'spec.encryption.key')
  const good = parseCiliumNode({ metadata: { name: 'x' }, spec: { eni: { a: 1 } } })
  assert(good.ok)
  assert.deepEqual(good.value.spec['eni'], { a: 1 })
})

test('a Node gives addresses and pod prefixes, from the old field too', () => {
  const facts = readNode({
    metadata: { name: 'n', uid: 'u' },
    spec: { podCIDR: '10.244.1.0/24' },
    status: {
      addresses: [
        { type: 'InternalIP', address: '172.18.0.3' },
        { type: 'Hostname', address: 'n' },
        { type: 'InternalIP', address: 'nonsense' },
      ],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  })
  assert.deepEqual(facts.internalIps, ['172.18.0.3'])
  assert.deepEqual(facts.podCidrs, ['10.244.1.0/24'])
  assert.equal(facts.ready, true)
  assert.equal(facts.problems.length, 1)
})
