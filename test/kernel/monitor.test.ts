import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import { KernelMonitor } from '#io/kernel/kernel-monitor.ts'
import { inNetworkNamespace } from '#io/kernel/network-namespace.ts'
import { XfrmClient } from '#io/kernel/xfrm-client.ts'
import { BLOCK, OUT, OUT_POLICY } from './xfrm-samples.ts'

test('what somebody else removes is told, and who did it', async () => {
  const name = 'pk-monitor'
  execFileSync('ip', ['netns', 'add', name])
  const events: XfrmEvent[] = []
  const path = `/run/netns/${name}`
  const nothing = () => undefined
  const { client, monitor } = inNetworkNamespace(path, () => ({
    client: new XfrmClient(),
    monitor: new KernelMonitor({
      event: nothing,
      table: nothing,
      lost: nothing,
      fault: (fault) => assert.fail(fault),
      xfrm: (event) => void events.push(event),
    }),
  }))
  try {
    client.change({ do: 'add state', state: OUT })
    for (const policy of [OUT_POLICY, BLOCK]) client.change({ do: 'add policy', policy })
    execFileSync('ip', [
      '-n',
      name,
      'xfrm',
      'policy',
      'delete',
      ...'src 10.244.1.0/24 dst 10.244.2.0/24 dir out'.split(' '),
    ])
    execFileSync('ip', ['-n', name, 'xfrm', 'state', 'flush'])
    while (!events.some(({ of }) => of === 'states')) await sleep(20)
    assert.deepEqual(
      events.map(({ of, ...event }) => `${of}${'gone' in event && event.gone ? ' gone' : ''}`),
      ['state', 'policy', 'policy', 'policy gone', 'states gone'],
    )
    const [made, , , gone] = events
    assert.ok(made?.of === 'state' && gone?.of === 'policy')
    assert.equal(made.value.spi, OUT.spi)
    assert.deepEqual(gone.value.selector, OUT_POLICY.selector)
    assert.ok(client.port > 0)
    assert.deepEqual([made.port, gone.port], [client.port, 0])
  } finally {
    await monitor.close()
    client.close()
    execFileSync('ip', ['netns', 'del', name])
  }
})
