import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { after, before, suite, test } from 'node:test'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { missingForTunnels, type Side, TunnelLab } from '#test/kit/tunnel-lab.ts'

/** Peers come and go, move and begin new sessions under traffic, for `PELLICLE_CHURN_SECONDS` (120): nothing grows. */
const SECONDS = Number(process.env['PELLICLE_CHURN_SECONDS'] ?? 120)
const skip = missingForTunnels('ping') ?? (SLOW ? false : SLOW_HINT)
const PEERS = 40
const PORTS = [51871, 51872]

interface Reading {
  readonly descriptors: number
  readonly mib: number
}

suite('a long time of churn', { skip }, () => {
  let lab: TunnelLab
  /** By the program's name. */
  const programs = new Map<string, number>()

  before(async () => {
    lab = await TunnelLab.open('pch')
    for (const side of [lab.a, lab.b]) {
      const supervisor = await lab.startOurs(side)
      const { engine, keeper } = await lab.status(side)
      programs.set(`${side.namespace} supervisor`, supervisor.pid ?? 0)
      programs.set(`${side.namespace} engine`, engine.pid).set(`${side.namespace} keeper`, keeper.pid)
    }
    await lab.introduce()
    await lab.reach(lab.a, lab.b.inner[4])
  })
  after(async () => {
    await lab?.close()
  })

  test('memory and descriptors stay as they are, and packets cross to the end', async (t) => {
    const traffic = lab.start(lab.a, 'ping', ['-n', '-q', '-i0.005', lab.b.inner[4]])
    const readings = new Map([...programs.keys()].map((name) => [name, [] as Reading[]]))
    const end = performance.now() + SECONDS * 1000
    let rounds = 0
    for (; performance.now() < end; rounds++) {
      await comeAndGo(lab, lab.a, rounds)
      await lab.wg('set', lab.b.device, 'listen-port', `${PORTS[rounds % 2]}`)
      if (rounds % 5 === 0) await beginAnew(lab, PORTS[rounds % 2] ?? 0)
      await lab.reach(lab.b, lab.a.inner[4])
      for (const [name, pid] of programs) readings.get(name)?.push(await read(lab, pid))
    }
    traffic.kill('SIGINT')
    await lab.ping(lab.a, lab.b.inner[6])
    t.diagnostic(`${rounds} rounds of ${PEERS} peers`)
    assert.ok(rounds >= 8, `${rounds} rounds say nothing`)
    for (const [name, list] of readings) {
      // the first quarter fills caches and what is grown once
      const quarter = Math.floor(list.length / 4)
      const [early, late] = [list.slice(quarter, 2 * quarter), list.slice(-quarter)].map(most) as [Reading, Reading]
      t.diagnostic(`${name}: ${early.mib.toFixed(1)} MiB, then ${late.mib.toFixed(1)}; ${late.descriptors} descriptors`)
      assert.ok(
        late.descriptors <= early.descriptors,
        `${name}: ${early.descriptors} descriptors, then ${late.descriptors}`,
      )
      assert.ok(late.mib <= early.mib * 1.1 + 2, `${name}: ${early.mib} MiB, then ${late.mib}`)
    }
    for (const side of [lab.a, lab.b]) {
      const { engine, keeper } = await lab.status(side)
      assert.deepEqual([engine.restarts, keeper.restarts], [0, 0], 'nothing was started again')
    }
  })
})

/** Peers that were never there before, each with addresses of its own, and then none of them. */
async function comeAndGo(lab: TunnelLab, side: Side, round: number): Promise<void> {
  const keys = Array.from({ length: PEERS }, () => randomBytes(32).toString('base64'))
  const words = keys.flatMap((key, n) => [
    'peer',
    key,
    'endpoint',
    `192.0.2.${100 + (n % 100)}:${1000 + (round % 1000)}`,
    'allowed-ips',
    `10.${100 + (round % 100)}.${n}.0/24,fd00:${round % 1000}:${n}::/64`,
  ])
  await lab.wg('set', side.device, ...words)
  await lab.wg('set', side.device, ...keys.flatMap((key) => ['peer', key, 'remove']))
}

/** The sessions are gone, and others are made. */
async function beginAnew(lab: TunnelLab, port: number): Promise<void> {
  const { a, b } = lab
  await lab.wg('set', a.device, 'peer', b.publicKey, 'remove')
  const ips = `${b.inner[4]}/32,${b.inner[6]}/128`
  await lab.wg('set', a.device, 'peer', b.publicKey, 'endpoint', `${b.outer[4]}:${port}`, 'allowed-ips', ips)
}

async function read(lab: TunnelLab, pid: number): Promise<Reading> {
  return { descriptors: (await readdir(`/proc/${pid}/fd`)).length, mib: await lab.residentMib(pid) }
}

function most(list: readonly Reading[]): Reading {
  return {
    descriptors: Math.max(...list.map(({ descriptors }) => descriptors)),
    mib: Math.max(...list.map(({ mib }) => mib)),
  }
}
