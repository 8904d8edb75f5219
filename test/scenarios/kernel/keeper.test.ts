import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { HostPlan } from '#core/host/host-plan.ts'
import { describeStep } from '#core/host/host-step.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { HostKeeper } from '#io/kernel/host-keeper.ts'
import type { HostReport } from '#io/kernel/host-kernel.ts'
import { KernelMonitor } from '#io/kernel/kernel-monitor.ts'
import { enterFreshNamespace, ip, nft } from './namespace.ts'

const PLAN: HostPlan = {
  links: [
    { kind: 'veth', name: 'cilium_host', peer: 'cilium_net', mtu: 1450 },
    { kind: 'given', name: 'cilium_wg0', mtu: 1370 },
  ],
  addresses: [{ device: 'cilium_host', ip: requireIp('10.244.1.1', 'test'), length: 32 }],
  routes: [
    { table: 201, destination: requireCidr('10.244.0.0/16', 'test'), type: 'blackhole', metric: 9999 },
    {
      table: 201,
      destination: requireCidr('10.244.2.0/24', 'test'),
      type: 'unicast',
      device: 'cilium_wg0',
      source: requireIp('10.244.1.1', 'test'),
      metric: 1024,
    },
  ],
  rules: [{ family: 4, priority: 201, mark: 0xe00, mask: 0xf00, invert: true, table: 201 }],
  neighbours: [],
  fdb: [],
  tables: [
    { family: 'inet', name: 'pellicle', body: 'chain a { type filter hook forward priority 0; tcp dport 1 drop; }' },
  ],
  sysctls: [],
}

/** A keeper, and a way to wait for its next repair (as long as the test may run). */
function start(t: TestContext) {
  const arrived: HostReport[] = []
  let wake: (() => void) | undefined
  const keeper = new HostKeeper({
    repaired: (report) => {
      arrived.push(report)
      wake?.()
    },
    fault: (fault) => assert.fail(fault),
  })
  t.after(() => keeper.close())
  // the keeper's own timers and thread do not keep a process alive
  const alive = setInterval(() => {}, 1000)
  t.after(() => clearInterval(alive))
  const repair = async (): Promise<string[]> => {
    while (arrived.length === 0) await new Promise<void>((resolve) => (wake = resolve))
    const report = arrived.shift()
    assert.deepEqual(report?.failed, [])
    return report?.done.map(describeStep) ?? []
  }
  return { keeper, repair }
}

test('what somebody else takes away comes back by itself, and is counted', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  ip('tuntap add dev cilium_wg0 mode tun')
  const { keeper, repair } = start(t)
  assert.deepEqual(keeper.apply(PLAN).failed, [])
  const cases: readonly (readonly [damage: () => unknown, repair: RegExp])[] = [
    [() => ip('route del 10.244.2.0/24 table 201'), /set route 10.244.2.0\/24/],
    [() => ip('rule del priority 201'), /add rule/],
    [() => nft('flush chain inet pellicle a'), /set table inet pellicle/],
    [() => ip('link set cilium_host mtu 1300'), /set link cilium_host mtu 1450/],
    [() => ip('link del cilium_host'), /create link cilium_host/],
  ]
  for (const [damage, expected] of cases) {
    const before = keeper.counters.restored
    damage()
    assert.match((await repair()).join('\n'), expected, damage.toString())
    assert.ok(keeper.counters.restored > before)
    assert.deepEqual(keeper.kernel.apply(PLAN).done, [])
  }
})

test('what stood on a device that is waited for is set when the device appears', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const { keeper, repair } = start(t)
  assert.deepEqual([...keeper.apply(PLAN).waiting], [['cilium_wg0', 2]])
  ip('tuntap add dev cilium_wg0 mode tun')
  const steps = [...(await repair())]
  while (!steps.some((step) => step.startsWith('set route'))) steps.push(...(await repair()))
  assert.match(ip('route show table 201'), /10.244.2.0\/24 dev cilium_wg0/)
  assert.equal(keeper.counters.restored, 0)
  assert.ok(keeper.counters.completed >= 2)
})

test('foreign changes cause no repair', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  ip('tuntap add dev cilium_wg0 mode tun')
  const { keeper, repair } = start(t)
  keeper.apply(PLAN)
  ip('link add other type veth peer name another')
  ip('route add blackhole 10.99.0.0/16 table 201')
  nft('add table inet other; add chain inet other x')
  // comes after them, so their turn was before
  nft('flush chain inet pellicle a')
  assert.deepEqual(await repair(), ['set table inet pellicle'])
  assert.equal(keeper.counters.restored, 1)
})

test('events that were lost are told', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  let lost: () => void = () => {}
  const told = new Promise<void>((resolve) => (lost = resolve))
  const monitor = new KernelMonitor(
    { event: () => {}, table: () => {}, lost: () => lost(), fault: (fault) => assert.fail(fault) },
    // the least that the kernel gives: a few messages
    { receiveBuffer: 1 },
  )
  t.after(() => monitor.close())
  const alive = setInterval(() => {}, 1000)
  t.after(() => clearInterval(alive))
  // 2,000 at once, while nobody can read as fast
  const { execFileSync } = await import('node:child_process')
  const batch = Array.from({ length: 2000 }, (_, i) => `route add blackhole 10.${i >> 8}.${i & 255}.0/24`).join('\n')
  execFileSync('ip', ['-batch', '-'], { input: batch })
  await told
})
