import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ProbeResult } from '#core/datapath/datapath.ts'
import { chooseDatapath, type DatapathWish } from './choose-datapath.ts'

const GOOD: ProbeResult = { usable: true }
const BAD: ProbeResult = {
  usable: false,
  missing: 'xfrm interfaces (module xfrm_interface)',
  remedy: 'Load the module',
}

function choose(wish: DatapathWish, result: ProbeResult, device?: string) {
  let probes = 0
  const probe = async () => {
    probes++
    return result
  }
  const made = chooseDatapath(wish, { kernel: { probe }, userspaceDevice: () => device })
  return made.then((choice) => ({ ...choice, probes }))
}

test('auto: the kernel where it has everything, else userspace with what is missing by name', async () => {
  assert.deepEqual(await choose('auto', GOOD), {
    kind: 'kernel',
    why: 'this kernel has WireGuard and IPsec',
    probes: 1,
  })
  const without = await choose('auto', BAD)
  assert.equal(without.kind, 'userspace')
  assert.match(without.why, /^this kernel lacks xfrm interfaces \(module xfrm_interface\)$/)
})

test('auto: a node whose traffic the userspace datapath carries goes on with it', async () => {
  const { kind, why } = await choose('auto', GOOD, 'cilium_wg0')
  assert.equal(kind, 'userspace')
  assert.match(why, /cilium_wg0/)
})

test('what is asked for: userspace without a question, the kernel or nothing', async () => {
  assert.deepEqual(await choose('userspace', GOOD), {
    kind: 'userspace',
    why: 'it is asked for (pellicle.datapath)',
    probes: 0,
  })
  assert.equal((await choose('kernel', GOOD)).kind, 'kernel')
  await assert.rejects(choose('kernel', BAD), {
    code: 'datapath.kernel.missing',
    message: /xfrm_interface/,
    field: 'pellicle.datapath',
    remedy: /Load the module/,
  })
})
