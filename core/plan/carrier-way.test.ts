import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TABLE_ENCRYPT_MARKED, TABLE_STEERING } from '#core/host/host-plan.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import { ipsecConfig, ipsecPeerOf, snapshotOf } from '#test/kit/snapshots.ts'
import { withWayOfCarriers } from './carrier-way.ts'
import { plan } from './plan.ts'

/** Closed, with that many peers. */
function hostOf(shape: IpsecShape, peers: number) {
  const list = Array.from({ length: peers }, (_, n) => ipsecPeerOf(n + 2, 3))
  const made = plan(snapshotOf(1, 3, list, { config: ipsecConfig(shape) }))
  assert.ok(made.usable)
  return made.host
}

test('a new peer: first what its encrypted packets need, while pods go as they went', () => {
  const [before, next] = [hostOf('esp-in-vxlan', 1), hostOf('esp-in-vxlan', 2)]
  const way = withWayOfCarriers(before, next)
  assert.ok(way !== undefined)
  const routes = (of: typeof next, table: number) => of.routes.filter((route) => route.table === table)
  assert.deepEqual(routes(way, TABLE_ENCRYPT_MARKED), routes(next, TABLE_ENCRYPT_MARKED))
  assert.deepEqual(routes(way, TABLE_STEERING), routes(before, TABLE_STEERING))
  assert.deepEqual([way.tables, way.neighbours, way.fdb], [next.tables, next.neighbours, next.fdb])
})

test('nothing is to be done before where no peer is new, or ESP goes between the nodes by itself', () => {
  assert.equal(withWayOfCarriers(hostOf('esp-in-vxlan', 2), hostOf('esp-in-vxlan', 2)), undefined)
  assert.equal(withWayOfCarriers(hostOf('esp-in-vxlan', 2), hostOf('esp-in-vxlan', 1)), undefined)
  for (const shape of ['udp', 'esp', 'vxlan-in-esp'] as const) {
    assert.equal(withWayOfCarriers(hostOf(shape, 1), hostOf(shape, 2)), undefined, shape)
  }
})
