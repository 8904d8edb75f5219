import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { requireCidr } from '#core/ip/cidr.ts'
import { JsonFile } from '#io/store/json-file.ts'
import { NodeAddresses } from './node-addresses.ts'
import { NodeStateStore, nodeStateSchema } from './node-state.ts'

test('an address that was just freed rests also over a restart of the agent', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'fc-'))
  t.after(() => rm(folder, { recursive: true }))
  const open = async () => {
    const state = new NodeStateStore(new JsonFile(join(folder, 'node.json'), nodeStateSchema))
    await state.load()
    return state
  }
  const podCidrs = [requireCidr('10.244.1.0/29', 'test')]
  const before = new NodeAddresses()
  const internal = before.use(podCidrs, [], [], 0)
  const freed = ['a', 'b', 'c'].map((owner) => before.allocate(owner, 0)[0]?.ip)
  for (const owner of ['a', 'b', 'c']) before.release(owner, 1000)
  const state = await open()
  await Promise.all([state.change({ internalIps: internal }), state.change({ ipam: before.remembered() })])

  const { value } = await open()
  assert.deepEqual(value.internalIps, internal, 'one change does not undo another')
  assert(value.ipam !== undefined)
  const after = new NodeAddresses()
  after.remember(value.ipam)
  after.use(podCidrs, value.internalIps, [], 2000)
  const given = ['d', 'e'].map((owner) => after.allocate(owner, 2000)[0]?.ip)
  assert.deepEqual(
    given.filter((ip) => freed.includes(ip)),
    [],
  )
  assert.throws(() => after.allocate('f', 2000), { code: /ipam/ })
})
