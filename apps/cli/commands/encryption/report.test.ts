import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'
import type { EncryptionStatus, IpsecStatus } from '#core/status/encryption-status.ts'
import { formatNodes, formatReport, type NodeAnswers, nodeDocuments, reportOf } from './report.ts'

const NONE = { expectedKeys: 0, rotation: undefined, nodes: [], now: 0 }
const ON = { mode: 'Wireguard' } as const

test('four closed nodes are four nodes, as Cilium prints it', () => {
  const report = reportOf(new Map(['a', 'b', 'c', 'd'].map((node) => [node, ON])), [], NONE)
  assert.equal(formatReport(report, NONE), 'Encryption: Wireguard (4/4 nodes)\n\n')
})

test('a node that still sends in clear, or has no key, is not counted but named', () => {
  const waiting = 'turning on, step 2 of 3: still sending in clear until every node can receive (waiting for d)'
  const answers: NodeAnswers = new Map<string, Partial<EncryptionStatus>>([
    ['a', ON],
    ['b', { mode: 'Disabled', msg: waiting }],
    ['c', { mode: 'Wireguard', msg: 'the supervisor does not answer' }],
    ['d', ON],
  ])
  const report = reportOf(answers, ['d', 'e'], NONE)
  assert.equal(report['enc-wireguard-node-count'], 1)
  assert.equal(
    formatReport(report, NONE),
    `Encryption: Disabled (1/4 nodes)
Encryption: Wireguard (1/4 nodes)
Node b: ${waiting}
Node c: the supervisor does not answer
Node d: has published no key: its pods cannot be reached
Node e: has published no key: its pods cannot be reached

`,
  )
})

test('with encryption off nobody needs a key', () => {
  const report = reportOf(new Map([['a', { mode: 'Disabled' }]]), ['a'], NONE)
  assert.equal(formatReport(report, NONE), 'Encryption: Disabled (1/1 nodes)\n\n')
})

const four = (ipsec: (node: number) => EncryptionStatus['ipsec']): NodeAnswers =>
  new Map([0, 1, 2, 3].map((node) => [`n${node}`, { mode: 'IPsec' as const, ipsec: ipsec(node) as IpsecStatus }]))
const REST = { ...NONE, expectedKeys: 6 }
const usual = { 'decrypt-interfaces': ['eth0'], 'keys-in-use': 6, 'max-seq-number': '0x1e3/0xffffffffffffffff' }

test('IPsec at rest, as Cilium prints it', () => {
  const report = reportOf(
    four(() => usual),
    [],
    REST,
  )
  assert.equal(
    formatReport(report, NONE),
    `Encryption: IPsec (4/4 nodes)
IPsec keys in use: 6 on 4/4
IPsec highest Seq. Number: 0x1e3/0xffffffffffffffff across all nodes
IPsec expected key count: 6
IPsec key rotation in progress: false
IPsec errors: 0 across all nodes

`,
  )
})

test('IPsec in the middle of a rotation, with errors: who is waited for is told', () => {
  const answers = four((node) =>
    node === 0
      ? { ...usual, 'keys-in-use': 12, 'max-seq-number': '0xa00/0xffffffffffffffff' }
      : node === 1
        ? { 'decrypt-interfaces': [], 'keys-in-use': 6, 'error-count': 3, 'xfrm-errors': { XfrmInNoStates: 3 } }
        : usual,
  )
  const ref = (id: number, digit = `${id}`) => ({ id, fingerprint: digit.repeat(16) as KeyFingerprint })
  const says = (name: string, receives: KeyRef[], ready = true) => ({
    name,
    ready,
    words: { receives, sends: [ref(3)] },
  })
  const facts = {
    ...REST,
    now: Date.parse('2026-11-21T12:03:05Z'),
    rotation: {
      text: '1 of 4 nodes receive key 4, waiting for n1, n2, n3',
      since: '2026-11-21T12:01:00Z',
      waitingFor: ['n1', 'n2', 'n3'],
    },
    nodes: [
      says('n0', [ref(3), ref(4)]),
      says('n1', [ref(3)]),
      says('n2', [ref(3, 'a')], false),
      { name: 'n3', ready: true, words: undefined },
    ],
  }
  const report = reportOf(answers, ['n3'], facts)
  assert.equal(
    formatReport(report, facts),
    `Encryption: IPsec (3/4 nodes)
IPsec keys in use: 6 on 3/4, 12 on 1/4
IPsec highest Seq. Number: 0xa00/0xffffffffffffffff across all nodes
IPsec expected key count: 6
IPsec key rotation in progress: true
\t1 of 4 nodes receive key 4, waiting for n1, n2, n3
\tsince 2026-11-21T12:01:00Z (2m5s)
\tNode n0: receives 3, 4; sends 3
\tNode n1: receives 3; sends 3 (waited for)
\tNode n2: receives 3 (aaaaaaaaaaaaaaaa); sends 3 (3333333333333333) (waited for, NotReady)
\tNode n3: has said nothing of keys (waited for)
IPsec errors: 3 across all nodes
\tXfrmInNoStates: 3 on 1/4 nodes
\t\tfor a key that this node does not receive by, or from a node that it does not know. A few while a node boots are usual; many: compare the keys of both nodes (pellicle encryption status)
Node n3: has published no key: its pods cannot be reached

`,
  )
  assert.deepEqual(report['ipsec-keys-in-use-node-count'], { 6: 3, 12: 1 })
  const of = (id: number) => `${id}:${String(id).repeat(16)}`
  assert.deepEqual(report['pellicle-node-keys']?.['n0'], { receives: [of(3), of(4)], sends: [of(3)], ready: true })
  assert.deepEqual(report['pellicle-node-keys']?.['n3'], { receives: [], sends: [], ready: true })
  assert.equal(report['pellicle-rotation-since'], '2026-11-21T12:01:00Z')
  assert.deepEqual(report['pellicle-rotation-waiting-for'], ['n1', 'n2', 'n3'])
  const documents = nodeDocuments(answers, REST)
  assert.deepEqual(documents['n0'], {
    mode: 'IPsec',
    ipsec: { ...usual, 'keys-in-use': 12, 'max-seq-number': '0xa00/0xffffffffffffffff' },
    'ipsec-key-rotation-in-progress': true,
    'ipsec-expected-key-count': 6,
  })
  const text = formatNodes(answers, REST)
  assert.match(text, /^Node: n1\nEncryption: IPsec\nIPsec keys in use: 6\nIPsec highest Seq\. Number: N\/A\n/m)
  assert.match(formatNodes(answers, facts), /^IPsec keys: receives 3; sends 3 \(waited for\)$/m)
  assert.match(JSON.stringify(nodeDocuments(answers, facts)['n1']), /"pellicle-keys":\{"receives":\["3:3{16}"\]/)
})

test('a node whose agent does not answer is named, and the others are counted', () => {
  const answers: NodeAnswers = new Map<string, Partial<EncryptionStatus>>([
    ['a', { mode: 'Disabled' }],
    ['b', { msg: 'its agent does not answer: timeout' }],
  ])
  const text = formatReport(reportOf(answers, ['a'], NONE), NONE)
  assert.equal(text, 'Encryption: Disabled (1/2 nodes)\nNode b: its agent does not answer: timeout\n\n')
})
