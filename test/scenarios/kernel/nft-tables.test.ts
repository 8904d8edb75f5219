import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import type { NftTablePlan } from '#core/host/host-plan.ts'
import { nftBody, nftChain, nftSet, outside, within } from '#core/plan/nft-text.ts'
import { plan } from '#core/plan/plan.ts'
import { NftTables } from '#io/kernel/nft-tables.ts'
import { cidr, peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { enterFreshNamespace, ip, nft } from './namespace.ts'

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

// says when it begins; sends to itself until its input ends; prints how many were sent, and how many the kernel refused
const FLOOD = `
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.244.1.9', 0))
sent = refused = 0
print('begun', flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(1000):
        try: s.sendto(b'x', ('10.244.2.9', 9))
        except PermissionError: refused += 1
        except ConnectionRefusedError: pass
        sent += 1
        if sent == 20000: print('enough', flush=True)
print(sent, refused)
`

test('while a table is replaced, a packet meets all of the old one or all of the new one', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  for (const ip4 of ['10.244.1.9', '10.244.2.9']) ip(`addr add ${ip4}/32 dev lo`)
  const tables = new NftTables()
  t.after(() => tables.close())
  // what is outside is dropped, by prefix and by set, in a chain that is jumped to
  const cidrs = [cidr('10.224.0.0/11'), cidr('10.9.0.0/16')]
  const table = (round: number): NftTablePlan => ({
    family: 'inet',
    name: 'pellicle',
    body: nftBody([
      nftSet('nodes', 'ipv4_addr', ['10.244.2.9', `10.3.0.${round}`]),
      nftSet('refused', 'ipv4_addr', [`10.1.0.${round}`]),
      nftChain('look', undefined, [
        `${outside('ip saddr', cidrs.toReversed())} drop`,
        ...within('ip daddr', cidrs).map((to) => `${to} ip daddr @nodes accept`),
        'meta l4proto udp drop',
      ]),
      nftChain('out', 'type filter hook output priority raw; policy accept;', ['ip daddr @refused drop', 'goto look']),
    ]),
  })
  tables.set(table(0))
  const flood = spawn('python3', ['-c', FLOOD], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => flood.kill())
  const told = createInterface(flood.stdout)[Symbol.asyncIterator]()
  assert.equal((await told.next()).value, 'begun')
  const flooding = { isEnough: false }
  const flooded = told.next().then(() => {
    flooding.isEnough = true
  })
  // also for as long as the flood has had no processor
  for (let round = 1; round <= 500 || !flooding.isEnough; round++) {
    tables.set(table(round % 200))
    // a replacement holds this thread up, not the flood
    if (round % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  tables.delete(table(0))
  await flooded
  flood.stdin.end()
  const [sent = 0, refused = -1] = ((await told.next()).value ?? '').split(' ').map(Number)
  t.diagnostic(`${refused} of ${sent} packets refused during 500 replacements`)
  assert.ok(sent > 10_000)
  assert.equal(refused, 0)
})
