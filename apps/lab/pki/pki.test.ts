import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { issue, makeAuthority } from './certificate.ts'

const now = Date.UTC(2026, 10, 21, 12)

test('a leaf is signed by the authority and carries its names, usages and dates', () => {
  const authority = makeAuthority({ name: 'kubernetes' }, now)
  const leaf = issue(
    authority,
    {
      name: 'system:node:kind-worker',
      organization: 'system:nodes',
      usages: ['server', 'client'],
      alternatives: ['kind-worker', '172.18.0.3', 'fd00:172:18::3'],
    },
    now,
  )
  const root = new X509Certificate(authority.certificate)
  const parsed = new X509Certificate(leaf.certificate)
  assert.equal(root.ca, true)
  assert.equal(root.verify(root.publicKey), true)
  assert.equal(parsed.ca, false)
  assert.equal(parsed.checkIssued(root), true)
  assert.equal(parsed.verify(root.publicKey), true)
  assert.equal(parsed.subject, 'O=system:nodes\nCN=system:node:kind-worker')
  assert.equal(parsed.subjectAltName, 'DNS:kind-worker, IP Address:172.18.0.3, IP Address:FD00:172:18:0:0:0:0:3')
  assert.deepEqual(parsed.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
  assert.ok(parsed.validFromDate.getTime() < now)
  assert.equal(parsed.validToDate.getUTCFullYear(), 2036)
  assert.equal(parsed.checkHost('kind-worker'), 'kind-worker')
  assert.equal(parsed.checkIP('172.18.0.3'), '172.18.0.3')
})

test('another authority of the same name does not verify', () => {
  const one = makeAuthority({ name: 'kubernetes' }, now)
  const other = makeAuthority({ name: 'kubernetes' }, now)
  const leaf = new X509Certificate(issue(one, { name: 'a', usages: ['client'] }, now).certificate)
  assert.equal(leaf.verify(new X509Certificate(other.certificate).publicKey), false)
})

test('years after 2049 are written out', () => {
  const far = Date.UTC(2045, 0, 1)
  const parsed = new X509Certificate(makeAuthority({ name: 'far' }, far).certificate)
  assert.equal(parsed.validToDate.getUTCFullYear(), 2054)
})
