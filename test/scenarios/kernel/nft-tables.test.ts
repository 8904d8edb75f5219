import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import type { NftTablePlan } from '#core/host/host-plan.ts'
import { plan } from '#core/plan/plan.ts'
import { NftTables } from '#io/kernel/nft-tables.ts'
import { peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { enterFreshNamespace, nft } from './namespace.ts'

test('counters that count are no change, a deleted rule is', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const tables = new NftTables()
  t.after(() => tables.close())
  const table: NftTablePlan = {
    family: 'inet',
    name: 'pellicle',
    body: `counter named { }
chain in { type filter hook input priority 0; policy accept; ip daddr 127.0.0.1 counter name "named" counter; }`,
  }
  tables.set(table)
  execFileSync('ping', ['-c1', '-W5', '127.0.0.1'])
  assert.doesNotMatch(nft('list counter inet pellicle named'), /packets 0 /)
  assert.deepEqual(tables.list([table]), [table])
  nft('delete rule inet pellicle in handle 3')
  assert.deepEqual(tables.list([table]), [{ family: 'inet', name: 'pellicle' }])
})

test('the planner’s own tables, of every level, are recognised as they were applied', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const tables = new NftTables()
  t.after(() => tables.close())
  for (const level of [0, 1, 2, 3] as const) {
    const made = plan(snapshotOf(1, level, [peerOf(2, level), peerOf(3, level)]))
    assert.ok(made.usable)
    for (const table of made.host.tables) tables.set(table)
    assert.deepEqual(
      tables.list(made.host.tables).sort((a, b) => (a.name < b.name ? -1 : 1)),
      made.host.tables.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    )
  }
})

test('named counters go on from where they were when a table is replaced', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const tables = new NftTables()
  t.after(() => tables.close())
  const table = (port: number): NftTablePlan => ({
    family: 'inet',
    name: 'pellicle',
    body: `counter other { }
counter named { }
chain in { type filter hook input priority 0; policy accept; ip daddr 127.0.0.1 counter name "named"; udp dport ${port} counter name "other"; }`,
  })
  tables.set(table(1))
  assert.deepEqual(tables.counters(), { other: 0, named: 0 })
  execFileSync('ping', ['-c1', '-W5', '127.0.0.1'])
  const { named = 0 } = tables.counters()
  assert.ok(named >= 2)
  tables.set(table(2))
  assert.deepEqual(tables.counters(), { other: 0, named })
  // what the next agent sees is still its plan's
  assert.deepEqual(tables.list([table(2)]), [table(2)])
  execFileSync('ping', ['-c1', '-W5', '127.0.0.1'])
  assert.ok((tables.counters()['named'] ?? 0) >= named + 2)
})
