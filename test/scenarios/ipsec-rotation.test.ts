import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { everyLevel, rotatedTo } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { createKey, keyText, patchKey, WIRE_SHAPES, type WireShape, xfrmErrors } from '#test/kit/ipsec.ts'
import { type Lab, labFor } from '#test/kit/lab.ts'
import { countFull } from '#test/kit/overruns.ts'
import { judgeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod, type Pod } from '#test/kit/probe/pods.ts'
import { killAndWait, settle } from '#test/kit/processes.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { measureStream } from '#test/kit/stream.ts'
import { strictUdp } from '#test/kit/strict-udp.ts'
import { runPods, sendMarker } from '#test/kit/traffic.ts'

// Ten keys in a row (four where time is short), past 15 to 1, while every pair of four nodes speaks on a strict schedule both ways beside a TCP stream.
// What each wire shape loses is printed: nothing. (A stream as fast as it can be fills the queues of this machine's
// kernel, and then they lose packets of everybody.)
const NAME = 'rot'
const MARKER = 'MARKER-ROTATING!'
const ROTATIONS = SLOW ? 10 : 4
const FIRST_ID = 12
/** Seconds from `patch` to the last old key removed, where all four nodes are well. */
const GOAL = 3

test('rotations lose nothing, nor encryption turned off and on, kills next to nothing, and nothing is in clear, in each wire shape', {
  timeout: 1_200_000,
}, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  for (const shape of WIRE_SHAPES) {
    await t.test(shape.name, async (t) => {
      if (shape !== WIRE_SHAPES[0] && !SLOW) return t.skip(SLOW_HINT)
      await createKey(lab, FIRST_ID)
      await lab.sh(
        `cilium install ${shape.flags} --set encryption.enabled=true --set encryption.type=ipsec && cilium status --wait`,
        300,
      )
      try {
        await rotateUnderTraffic(t, lab, shape)
      } finally {
        await lab.sh('kubectl delete pods --all --wait && cilium uninstall --wait', 480)
        await lab.sh('kubectl -n kube-system delete secret cilium-ipsec-keys')
      }
    })
  }
})

async function rotateUnderTraffic(t: TestContext, lab: Lab, shape: WireShape): Promise<void> {
  const names = ['control-plane', 'worker', 'worker2', 'worker3']
  await runPods(lab, Object.fromEntries(names.map((name) => [name, `${NAME}-${name}`])))
  const pods = await Promise.all(names.map((name) => findPod(lab, name)))
  const pair = [pods[1] as Pod, pods[2] as Pod] as const
  await using wire = await Capture.start(lab, 'underlay', { filter: ['not', '(', ...shape.filter.split(' '), ')'] })
  await sendMarker(lab, names[1] as string, pods[1] as Pod, pods[2] as Pod, MARKER)
  const queues = await countFull(lab, pods)
  // one beforehand says how long they take on this machine now
  let id = FIRST_ID
  const rotate = async () => {
    id = (id % 15) + 1
    const began = performance.now()
    await patchKey(lab, keyText(id))
    await rotatedTo(lab, id)
    return (performance.now() - began) / 1000
  }
  const seconds = Math.ceil(ROTATIONS * Math.max(6, 4 * (await rotate())))
  const udp = await strictUdp(lab, pods, seconds)
  const ended = performance.now() + seconds * 1000
  await settle(1)

  const errorsBefore = await xfrmErrors(lab)
  const stream = measureStream(lab, pods[1] as Pod, pods[2] as Pod, ROTATIONS * 3, { limit: '200M' })
  const times: number[] = []
  for (let n = 1; n <= ROTATIONS; n++) {
    times.push(await rotate())
  }
  const spare = ended - performance.now()
  const gigabits = await stream
  const results = await udp.results
  await sendMarker(lab, names[1] as string, pods[1] as Pod, pods[2] as Pod, MARKER)
  const [sent, lost] = [sum(results.map((result) => result.sent)), sum(results.map((result) => result.lost))]
  const full = await queues()
  times.sort((a, b) => a - b)
  const [median, longest] = [times[times.length >> 1] ?? Number.NaN, times.at(-1) ?? Number.NaN]
  t.diagnostic(
    `${shape.name}: ${ROTATIONS} rotations, ${lost} of ${sent} packets lost (full queues dropped ${full.dropped}${full.where === '' ? '' : `: ${full.where}`}); ` +
      `patch to last old key removed ${median.toFixed(1)} s (longest ${longest.toFixed(1)}); beside a stream of ${gigabits.toFixed(2)} Gbit/s`,
  )
  // for programs; a busy machine misses the goal, and no rule is broken by it
  const taken = { median: round(median), longest: round(longest), goal: GOAL, reached: median <= GOAL }
  t.diagnostic(
    JSON.stringify({
      figure: 'patch to last old key removed',
      shape: shape.name,
      nodes: 4,
      rotations: ROTATIONS,
      seconds: taken,
    }),
  )
  assert.ok(sent > 0 && lost <= full.dropped, `${lost} lost`)
  assert.deepEqual(await xfrmErrors(lab), errorsBefore)
  if (spare < 0)
    t.skip(`needs processors: the rotations took ${(-spare / 1000).toFixed(1)} s longer than the packets were sent`)

  assert.equal(await wire.count(MARKER), 0)
  if (!SLOW) return

  await using later = await Capture.start(lab, 'underlay')
  await t.test('agent and engine are killed', async (t) => {
    for (const [program, most] of [
      ['agent', 0],
      // what an engine had in its hands, a batch of 64 a direction; counted by echoes, which pass both
      ['engine', 2 * 64],
    ] as const) {
      const kill = () => killAndWait(lab, pair[0].node, program)
      const loss = await lossWhile(lab, pair, kill, { text: MARKER })
      judgeLoss(t, `${shape.name}: kill -9 of the ${program}`, loss, most)
    }
  })
  assert.equal(await later.count(MARKER), 0)

  for (const [what, enabled, level] of [
    ['turned off', false, 0],
    ['turned on', true, 3],
  ] as const) {
    await t.test(`encryption is ${what}`, async (t) => {
      const change = async () => {
        await lab.sh(`cilium upgrade --set encryption.enabled=${enabled}`, 300)
        await everyLevel(lab, level)
      }
      const loss = await lossWhile(lab, pair, change, { text: MARKER })
      judgeLoss(t, `${shape.name}: ${what}`, loss)
      if (enabled) return
      const left = await lab.node((pods[1] as Pod).node, 'ip -o link; ip rule; ip route show table all')
      assert.doesNotMatch(left, /pellicle_ipsec|0xe00/)
    })
  }
}

function round(seconds: number): number {
  return Math.round(seconds * 100) / 100
}

function sum(list: readonly number[]): number {
  return list.reduce((total, value) => total + value, 0)
}
