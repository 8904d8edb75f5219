import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import {
  arrivedInClear,
  connect,
  drops,
  ip,
  makeNodes,
  policyOf,
  removeNodes,
  stateOf,
  type TunnelNode,
} from './tunnels.ts'

// The real kernel of the guest (tools/kernel). What the kernel datapath will stand on: ESP tunnels between namespaces.

const pingArguments = ({ name }: TunnelNode, to: TunnelNode, count: number) => {
  const ping = ['ping', '-q', '-c', String(count), '-i', '0.02', '-W', '1', `10.244.${to.number}.1`]
  return ['netns', 'exec', name, ...ping]
}
/** How many were answered. */
const answered = (text: string) => Number(/ (\d+) received/.exec(text)?.[1] ?? Number.NaN)
const ping = (from: TunnelNode, to: TunnelNode, count: number) =>
  answered(spawnSync('ip', pingArguments(from, to, count), { encoding: 'utf8' }).stdout)

async function withNodes(count: number, body: (nodes: readonly TunnelNode[]) => Promise<void> | void): Promise<void> {
  const nodes = makeNodes('pk-esp', count)
  try {
    await body(nodes)
    for (const node of nodes) assert.equal(arrivedInClear(node), 0, `${node.name} got packets in clear`)
  } finally {
    removeNodes(nodes)
  }
}

test('two peers send by the same SPI: the mark tells their states apart, and all is counted', async () => {
  await withNodes(3, ([one, two, three]) => {
    assert.ok(one && two && three)
    connect(one, two, 3, 0x20)
    connect(one, three, 3, 0x60)
    assert.equal(ping(one, two, 20), 20)
    assert.equal(ping(three, one, 20), 20)
    const states = one.xfrm.states()
    assert.equal(states.length, 4)
    for (const state of states) {
      assert.equal(state.packets, 20n)
      const { sent, received } = state.replay
      assert.deepEqual([sent, received], state.source === '192.0.2.1' ? [20n, 0n] : [0n, 20n])
    }
    for (const node of [one, two, three]) assert.deepEqual(drops(node), {})
    assert.match(ip('-n', one.name, 'xfrm', 'state', 'list'), /mark 0x20d00\/0xffff0f00 output-mark 0xd00\/0xffff0f00/)
  })
})

test('the order of a rotation, under ping: nothing is lost', async () => {
  await withNodes(2, async ([one, two]) => {
    assert.ok(one && two)
    connect(one, two, 3, 0x20)
    const running = promisify(execFile)('ip', pingArguments(one, two, 150))
    const pairs = [
      [one, two],
      [two, one],
    ] as const
    // receive by the new key, send by it, let the old one go
    for (const [from, to] of pairs) to.xfrm.change({ do: 'add state', state: stateOf(from, to, to, 4, 0x40) })
    for (const [from, to] of pairs) {
      from.xfrm.change({ do: 'add state', state: stateOf(from, to, from, 4, 0x40) })
      from.xfrm.change({ do: 'set policy', policy: policyOf(from, to, 'out', 4) })
      from.xfrm.change({ do: 'delete state', state: stateOf(from, to, from, 3, 0x20) })
    }
    const { stdout } = await running
    assert.equal(answered(stdout), 150)
    for (const node of [one, two]) assert.deepEqual(drops(node), {})
    const sent = one.xfrm.states().find(({ spi, source }) => spi === 4 && source === '192.0.2.1')
    assert.ok((sent?.packets ?? 0n) > 0n)
  })
})

test('without a state, or with another key, nothing arrives and nothing leaves in clear; the kernel says why', async () => {
  await withNodes(2, ([one, two]) => {
    assert.ok(one && two)
    connect(one, two, 3, 0x20)
    assert.equal(ping(one, two, 3), 3)
    const receiving = stateOf(one, two, two, 3, 0x20)
    two.xfrm.change({ do: 'delete state', state: receiving })
    assert.equal(ping(one, two, 2), 0)
    assert.deepEqual(drops(two), { XfrmInNoStates: 2 })
    two.xfrm.change({ do: 'add state', state: stateOf(one, two, two, 3, 0x70) })
    assert.equal(ping(one, two, 2), 0)
    assert.deepEqual(drops(two), { XfrmInNoStates: 2, XfrmInStateProtoError: 2 })
    one.xfrm.change({ do: 'delete state', state: stateOf(one, two, one, 3, 0x20) })
    spawnSync('ip', pingArguments(one, two, 2))
    assert.deepEqual(drops(two), { XfrmInNoStates: 2, XfrmInStateProtoError: 2 })
  })
})

test('a state that is made again goes on where it is told to, and the receiver takes it', async () => {
  await withNodes(2, ([one, two]) => {
    assert.ok(one && two)
    connect(one, two, 3, 0x20)
    assert.equal(ping(one, two, 5), 5)
    const sending = stateOf(one, two, one, 3, 0x20)
    const last = one.xfrm.states().find(({ source }) => source === '192.0.2.1')?.replay
    assert.equal(last?.sent, 5n)
    one.xfrm.change({ do: 'delete state', state: sending })
    // from the beginning: the receiver's window refuses what it has had
    one.xfrm.change({ do: 'add state', state: sending })
    assert.equal(ping(one, two, 3), 0)
    assert.equal(drops(two)['XfrmInStateSeqError'], 3)
    one.xfrm.change({ do: 'delete state', state: sending })
    one.xfrm.change({ do: 'add state', state: { ...sending, replay: { ...last, sent: 1000n } } })
    assert.equal(ping(one, two, 5), 5)
    assert.equal(two.xfrm.states().find(({ source }) => source === '192.0.2.1')?.replay.received, 1005n)
  })
})

test('a peer may speak only as itself: another inner source is dropped by the template that its policy requires', async () => {
  await withNodes(3, ([one, two, three]) => {
    assert.ok(one && two && three)
    connect(one, two, 3, 0x20)
    connect(one, three, 3, 0x60)
    // node three takes an address of node two's pods, and sends it by its own state
    ip('-n', three.name, 'addr', 'add', '10.244.2.77/32', 'dev', 'lo')
    three.xfrm.change({
      do: 'add policy',
      policy: { ...policyOf(three, one, 'out', 3), selector: policyOf(two, one, 'out', 3).selector },
    })
    spawnSync('ip', [
      'netns',
      'exec',
      three.name,
      'ping',
      '-c',
      '2',
      '-i',
      '0.02',
      '-W',
      '1',
      '-I',
      '10.244.2.77',
      '10.244.1.1',
    ])
    assert.deepEqual(drops(one), { XfrmInTmplMismatch: 2 })
  })
})
