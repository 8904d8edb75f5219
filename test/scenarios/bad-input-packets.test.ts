import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { HEALTH_OPERATION, parseHealth } from '#core/uapi/health.ts'
import { exchange } from '#io/userspace/line-socket.ts'
import { missingForTunnels, TunnelLab } from '#test/kit/tunnel-lab.ts'

// The real supervisor, engine and keeper meet whatever can come in by the UDP port, while an honest peer talks at
// 1,000 packets a second. It must not lose any.
const skip = missingForTunnels('tcpdump') ?? false
const flooder = new URL('../kit/probe/flood.ts', import.meta.url).pathname

suite('packets that are wrong cost the honest peer nothing', { skip, concurrency: 1 }, () => {
  let lab: TunnelLab
  let honest: string

  before(async () => {
    lab = await TunnelLab.open('pwb')
    await Promise.all([lab.startOurs(lab.a), lab.startOurs(lab.b)])
    honest = join(lab.folder, 'honest.pcap')
    const tcpdump = lab.start(lab.b, 'tcpdump', [
      '-i',
      'pwbvb',
      '-w',
      honest,
      '-U',
      '--immediate-mode',
      '-Z',
      'root',
      'udp port 51871',
    ])
    while (!lab.log(lab.b).includes('listening on')) await sleep(20)
    await lab.introduce()
    await lab.ping(lab.a, lab.b.inner[4])
    await lab.ping(lab.b, lab.a.inner[4])
    // a handshake and some of the pings
    while (statSync(honest).size < 1500) await sleep(20)
    tcpdump.kill('SIGINT')
    await new Promise((resolve) => tcpdump.once('close', resolve))
  })
  after(() => lab?.close())

  const flood = async (kind: string): Promise<number> => {
    const args = [flooder, kind, lab.b.outer[4], '51871', '2', honest, lab.b.publicKey]
    return Number(await lab.run(lab.a, process.execPath, ...args))
  }

  for (const kind of ['random', 'types', 'lengths', 'forged', 'initiations', 'replayed', 'altered'] as const) {
    test(`a flood: ${kind}`, async (t) => {
      let sent = 0
      const before = await lab.overruns()
      const loss = await lab.probe(4, async () => {
        sent = await flood(kind)
      })
      const overrun = (await lab.overruns()) - before
      t.diagnostic(
        `${kind}: ${loss.lost} of ${loss.sent} packets lost beside ${sent} wrong ones; full queues dropped ${overrun}`,
      )
      assert.ok(sent > 1000, `only ${sent} were sent`)
      assert.ok(loss.lost <= overrun, `${loss.lost} lost, and full queues dropped only ${overrun}`)
      assert.equal(loss.duplicates, 0, 'a replayed packet was delivered')
      const endpoint = (await lab.wg('show', lab.b.device, 'endpoints')).trim().split('\t')[1]
      assert.equal(endpoint, `${lab.a.outer[4]}:51871`, 'a wrong packet moved the peer')
    })
  }

  test('who does not know the public key gets no further than the engine', async () => {
    const before = await counters(lab)
    const sent = await flood('forged')
    const after = await counters(lab)
    const grown = (name: string) => (after[name] ?? 0) - (before[name] ?? 0)
    assert.ok(grown('dropForgedHandshake') > sent / 2, `${grown('dropForgedHandshake')} of ${sent} were dropped`)
    assert.equal(grown('handshakes.forged') + grown('handshakes.unknown'), 0, 'the keeper had to look at some')
  })

  test('a handshake gets through a flood of initiations, by a cookie', async () => {
    const { publicKey } = lab.b
    const before = await lab.latestHandshake(lab.a)
    await sleep(1100) // handshakes are told in whole seconds
    await lab.wg('set', lab.a.device, 'peer', publicKey, 'remove')
    const flooding = flood('initiations')
    await lab.wg(
      'set',
      lab.a.device,
      'peer',
      publicKey,
      'endpoint',
      `${lab.b.outer[4]}:51871`,
      'allowed-ips',
      `${lab.b.inner[4]}/32`,
    )
    await lab.reach(lab.a, lab.b.inner[4])
    assert.ok((await lab.latestHandshake(lab.a)) > before)
    await flooding
  })

  test('the same processes run as before', async () => {
    for (const side of [lab.a, lab.b]) {
      const { engine, keeper } = await lab.status(side)
      assert.deepEqual([engine.restarts, keeper.restarts], [0, 0], lab.log(side))
    }
  })
})

/** The second side's, of its engine and of handshakes. */
async function counters(lab: TunnelLab): Promise<Readonly<Record<string, number>>> {
  const path = `/var/run/wireguard/${lab.b.device}.sock`
  const text = await exchange(path, `${HEALTH_OPERATION}\n\n`, (answer) => answer.endsWith('\n\n'), 5000)
  const health = parseHealth(text)
  assert.ok(health !== undefined)
  return health.counters
}
