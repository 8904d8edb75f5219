import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { Level } from '#core/transition/level.ts'
import { ipsecConfig, ipsecPeerOf, peerOf, snapshotOf, stagePeerOf, stageSnapshotOf } from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { Snapshot } from './snapshot.ts'

function textOf(snapshot: Snapshot): string {
  const made = plan(snapshot)
  assert.ok(made.usable, JSON.stringify(made))
  return made.host.tables.find(({ name }) => name === 'pellicle')!.body
}
const chain = (text: string, name: string) => new RegExp(`chain ${name} \\{\\n([^]*?)\\n\\}`).exec(text)?.[1] ?? ''
/** What of IPv4 is untracked on its way in. */
const untracked = (text: string) =>
  [...chain(text, 'untracked_in').matchAll(/^ {2}ip daddr (.*) notrack$/gm)].map(([, match]) => match)
const refusedToPods = (text: string) =>
  [...chain(text, 'forward').matchAll(/"lxc\*" (.*) ip daddr @nodes4 counter name (?:vxlan|carrier)_by_pod drop/g)].map(
    ([, match]) => match,
  )
const ipsec = (shape: IpsecShape, level: Level) =>
  textOf(snapshotOf(1, level, [ipsecPeerOf(2, level)], { config: ipsecConfig(shape) }))

const VXLAN = 'udp dport 8472'
const MARKED = 'meta l4proto { udp, esp } meta mark & 0xf00 == 0xe00 notrack'
const VXLAN_OUT = `${VXLAN} ip daddr @nodes4 notrack`
const lines = (text: string, name: string) =>
  chain(text, name)
    .split('\n')
    .map((line) => line.trim())

test('what carries the rest is untracked to this node’s own addresses, and from it, while it is there', () => {
  for (const [level, carriers] of [
    [0, [VXLAN]],
    [1, ['udp dport 51871', VXLAN]],
    [2, ['udp dport 51871', VXLAN]],
    [3, ['udp dport 51871']],
  ] as const) {
    const text = textOf(snapshotOf(1, level, [peerOf(2, level)]))
    assert.deepEqual(
      untracked(text),
      carriers.map((carrier) => `172.18.0.3 ${carrier}`),
      `level ${level}`,
    )
    assert.ok(chain(text, 'untracked_in').includes(`ip6 daddr fc00:18::3 ${carriers[0]} notrack`))
    const out = lines(text, 'untracked_out')
    assert.ok(out.includes(MARKED))
    assert.equal(out.includes(VXLAN_OUT), level < 3)
  }
  for (const [shape, level, carriers] of [
    ['udp', 1, ['172.18.0.3 udp dport 4500', '172.18.0.3 meta l4proto esp', `172.18.0.3 ${VXLAN}`]],
    ['udp', 3, ['172.18.0.3 udp dport 4500', '172.18.0.3 meta l4proto esp']],
    ['esp', 3, ['172.18.0.3 udp dport 4500', '172.18.0.3 meta l4proto esp']],
    ['vxlan-in-esp', 3, ['172.18.0.3 meta l4proto esp', `172.18.0.3 ${VXLAN}`]],
    ['esp-in-vxlan', 3, [`172.18.0.3 ${VXLAN}`, '10.244.1.1 meta l4proto esp']],
  ] as const) {
    const text = ipsec(shape, level)
    assert.deepEqual(untracked(text), carriers, `${shape} ${level}`)
    assert.ok(lines(text, 'untracked_out').includes(MARKED))
  }
})

test('while the mode changes, that of both', () => {
  const text = textOf(stageSnapshotOf(1, 3, 1, [stagePeerOf(2, 3, 1)], 'esp'))
  const carriers = ['udp dport 51871', 'udp dport 4500', 'meta l4proto esp']
  assert.deepEqual(
    untracked(text),
    carriers.map((carrier) => `172.18.0.3 ${carrier}`),
  )
  assert.deepEqual(refusedToPods(text), [VXLAN, ...carriers])
})

test('pods send nothing to nodes that carries the rest, while it is there', () => {
  assert.deepEqual(refusedToPods(textOf(snapshotOf(1, 0, [peerOf(2, 0)]))), [VXLAN])
  assert.deepEqual(refusedToPods(ipsec('udp', 3)), [VXLAN, 'udp dport 4500', 'meta l4proto esp'])
  assert.deepEqual(refusedToPods(ipsec('esp-in-vxlan', 3)), [VXLAN])
})
