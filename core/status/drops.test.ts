import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { plan } from '#core/plan/plan.ts'
import { peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { DROPS, dropsOf, isUnusual } from './drops.ts'
import { XFRM, XFRM_OF_KERNEL } from './xfrm.ts'

test('every counter that a packet can end in has a meaning, and no other has', async () => {
  const names = new Set<string>()
  for (const level of [0, 1, 2, 3] as const) {
    const { config, ...rest } = snapshotOf(1, level, [peerOf(2, level), peerOf(3, level)])
    for (const nodeEncryption of [false, true]) {
      const made = plan({ ...rest, config: { ...config, encryption: { ...config.encryption, nodeEncryption } } })
      assert.ok(made.usable)
      for (const { body } of made.host.tables) {
        for (const [, name = ''] of body.matchAll(/counter name (\w+) drop/g)) names.add(name)
      }
    }
  }
  assert.ok(names.has('would_leave_in_clear'))
  const source = await readFile('engine/engined/src/engine/counters.rs', 'utf8')
  for (const [, name = ''] of source.matchAll(/^ +\w+ "((?:drop|Xfrm)\w+)"$/gm)) names.add(name)
  assert.ok(names.has('dropNoPeer'))
  assert.deepEqual([...Object.keys(DROPS), ...Object.keys(XFRM)].sort(), [...names].sort())
})

test('the manual has every counter of IPsec with what it means and what to do', async () => {
  const manual = await readFile('docs/operate/status.md', 'utf8')
  for (const [name, { means, todo }] of Object.entries({ ...XFRM, ...XFRM_OF_KERNEL })) {
    assert.ok(manual.includes(`| \`${name}\` | ${means} | ${todo} |`), name)
  }
})

test('only what dropped something is told, most first, each with what to do', () => {
  const drops = dropsOf('engine', {
    packetsSent: 9,
    dropNoPeer: 2,
    dropForged: 0,
    dropExpiredSession: 3,
    dropOfTomorrow: 1,
  })
  assert.deepEqual(
    drops.map(({ name, packets }) => [name, packets]),
    [
      ['dropExpiredSession', 3],
      ['dropNoPeer', 2],
      ['dropOfTomorrow', 1],
    ],
  )
  assert.match(drops[1]?.sentence ?? '', /no peer has\. Compare the CiliumNodes/)
  assert.deepEqual(
    drops.filter(isUnusual).map(({ name }) => name),
    ['dropNoPeer', 'dropOfTomorrow'],
  )
})
