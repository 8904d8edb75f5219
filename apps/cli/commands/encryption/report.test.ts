import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EncryptionStatus } from '#core/status/encryption-status.ts'
import { formatReport, type NodeAnswers, reportOf } from './report.ts'

const ON = { mode: 'Wireguard' } as const

test('four closed nodes are four nodes, as Cilium prints it', () => {
  const report = reportOf(new Map(['a', 'b', 'c', 'd'].map((node) => [node, ON])), [])
  assert.equal(formatReport(report), 'Encryption: Wireguard (4/4 nodes)\n\n')
})

test('a node that still sends in clear, or has no key, is not counted but named', () => {
  const waiting = 'turning on, step 2 of 3: still sending in clear until every node can receive (waiting for d)'
  const answers: NodeAnswers = new Map<string, Partial<EncryptionStatus>>([
    ['a', ON],
    ['b', { mode: 'Disabled', msg: waiting }],
    ['c', { mode: 'Wireguard', msg: 'the supervisor does not answer' }],
    ['d', ON],
  ])
  const report = reportOf(answers, ['d', 'e'])
  assert.equal(report['enc-wireguard-node-count'], 1)
  assert.equal(
    formatReport(report),
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
  const report = reportOf(new Map([['a', { mode: 'Disabled' }]]), ['a'])
  assert.equal(formatReport(report), 'Encryption: Disabled (1/1 nodes)\n\n')
})
