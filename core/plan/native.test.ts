import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Level } from '#core/transition/level.ts'
import { CONFIG, cidr, ipsecConfig, ipsecPeerOf, peerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { plan } from './plan.ts'
import type { NativeRouting, PlanConfig } from './snapshot.ts'

const DIRECT: NativeRouting = { cidrs: CONFIG.clusterCidrs, directNodeRoutes: true }

function planned(level: Level, native: NativeRouting, more: Partial<PlanConfig> = {}) {
  const ipsec = more.encryption?.type === 'ipsec'
  const peers = [ipsec ? ipsecPeerOf(2, level) : peerOf(2, level)]
  const made = plan(snapshotOf(1, level, peers, { config: { ...more, native } }))
  assert.ok(made.usable)
  return made
}

const to = (made: ReturnType<typeof planned>, destination: string) =>
  made.host.routes
    .filter((r) => r.destination === destination)
    .map((r) => `${r.table} ${r.device} ${r.via} ${r.source}`)

test('in clear a node is the way to its pods, with the internal IP as source, and nothing is a tunnel', () => {
  const made = planned(0, DIRECT)
  assert.deepEqual(to(made, '10.244.2.0/24'), ['254 eth0 172.18.0.4 10.244.1.1'])
  assert.deepEqual(to(made, 'fd00:10:244:2::/64'), ['254 eth0 fc00:18::4 fd00:10:244:1::1'])
  assert.deepEqual([made.host.fdb, made.host.links.filter(({ kind }) => kind === 'vxlan')], [[], []])
  assert.equal(made.host.neighbours.filter(({ device }) => device === 'cilium_vxlan').length, 0)
  assert.ok(made.host.sysctls.some((s) => s.path === 'net/ipv4/conf/eth0/rp_filter' && s.value === '2'))
})

test('what the network carries is not masqueraded, all else is', () => {
  const body = planned(0, { ...DIRECT, cidrs: [cidr('10.0.0.0/8')] }).host.tables[0]?.body ?? ''
  const own = 'ip saddr 10\\.244\\.1\\.0/24'
  assert.match(
    body,
    new RegExp(`${own} ip daddr 10\\.0\\.0\\.0/8 accept\n.*${own} ip daddr != 10\\.224\\.0\\.0/11 .* masquerade`),
  )
  const tunnel = plan(snapshotOf(1, 0, []))
  assert.ok(tunnel.usable && !tunnel.host.tables[0]?.body.includes('10.0.0.0/8'))
})

test('routers that know the way are asked until the node is closed', () => {
  const routers = { ...DIRECT, directNodeRoutes: false }
  for (const level of [0, 1, 2] as const) {
    const made = planned(level, routers)
    assert.equal(made.host.routes.filter(({ type }) => type === 'blackhole').length, 0)
    assert.deepEqual(to(made, '10.244.2.0/24'), level === 2 ? ['201 cilium_wg0 undefined 10.244.1.1'] : [])
  }
  assert.equal(planned(3, routers).host.routes.filter(({ type }) => type === 'blackhole').length, 2)
})

test('closed it is what it is with a tunnel', () => {
  for (const more of [{}, ipsecConfig('esp'), ipsecConfig('udp')]) {
    const device = 'encryption' in more ? 'pellicle_ipsec' : 'cilium_wg0'
    const made = planned(3, DIRECT, more)
    assert.deepEqual(to(made, '10.244.2.0/24'), [`201 ${device} undefined 10.244.1.1`])
    assert.match(made.host.tables[0]?.body ?? '', /ip saddr 10\.224\.0\.0\/11 counter name entered_in_clear drop/)
    assert.match(made.host.tables[0]?.body ?? '', /ip daddr 10\.224\.0\.0\/11 counter name would_leave_in_clear drop/)
  }
})
