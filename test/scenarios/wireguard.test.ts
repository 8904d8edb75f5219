import assert from 'node:assert/strict'
import { test } from 'node:test'
import { everyLevel } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { labFor } from '#test/kit/lab.ts'
import { describeLoss, judgeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { killAndWait, processIds, usage } from '#test/kit/processes.ts'
import { exposePod, runPods, sendMarker } from '#test/kit/traffic.ts'

// One life of WireGuard in a real cluster, with somebody listening between the nodes all the time: what pods say is heard
// while encryption is off, so the check can fail, and never from the moment it is on. It is turned on and off, and each of
// our own programs is killed and replaced, under 1,000 UDP packets a second and their echoes. What each costs is printed.
const NAME = 'wg'
const MARKER = 'MARKER-ENCRYPTED'

/**
 * What an engine had taken from a descriptor and not yet given to the next dies with it: one batch of 64 a direction,
 * and packets are counted by their echoes, which pass both directions of the node. What waits in the TUN queue and the
 * socket buffers meanwhile is still there for its successor.
 */
const ENGINE_BATCHES = 2 * 64

test('WireGuard from the first packet to the last', { timeout: 1_200_000 }, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  await lab.sh('cilium install --set encryption.enabled=false && cilium status --wait', 300)
  await runPods(lab, { a: `${NAME}-worker`, b: `${NAME}-worker2` })
  const [a, b] = [await findPod(lab, 'a'), await findPod(lab, 'b')]
  const service = await exposePod(lab, 'b')
  const say = async (marker: string) => await sendMarker(lab, 'a', a, b, marker, [service])

  await t.test('with encryption off the marker is on the wire', async () => {
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-BEFORE-ALL')
    assert.ok((await wire.count('CLEAR-BEFORE-ALL')) > 5)
  })

  await t.test('turning it on loses nothing', async (t) => {
    const loss = await lossWhile(lab, [a, b], async () => {
      await lab.sh('cilium upgrade --set encryption.enabled=true --set encryption.type=wireguard', 300)
      await everyLevel(lab, 3)
    })
    judgeLoss(t, t.name, loss)
  })

  // one capture from here on, through everything that happens to our own programs
  await using wire = await Capture.start(lab, 'underlay')
  await t.test('traffic goes on, through a Service too', async (t) => {
    await say(MARKER)
    const used = (['agent', 'keeper', 'engine'] as const).map((program) => usage(lab, a.node, program, 5))
    t.diagnostic(`while nothing happens: ${(await Promise.all(used)).join('; ')}`)
  })

  await lab.sh('kubectl -n kube-system rollout status deploy/cilium-operator --timeout=240s', 300)
  const operatorNode = await lab.sh(
    `kubectl -n kube-system get pods -l io.cilium/app=operator -o jsonpath='{.items[0].spec.nodeName}'`,
  )

  /** Seconds until it was back, when `event` knows. */
  const during = async (event: () => Promise<number | void>) => await lossWhile(lab, [a, b], event, { text: MARKER })
  const back = (seconds: number | void) => (seconds === undefined ? '' : `, back after ${seconds.toFixed(1)} s`)

  await t.test('without an event nothing is lost', async (t) => {
    judgeLoss(t, 'no event', await during(async () => {}))
  })

  for (const [program, node, most] of [
    ['agent', a.node, 0],
    ['keeper', a.node, 0],
    ['operator', operatorNode, 0],
    ['engine', a.node, ENGINE_BATCHES],
  ] as const) {
    await t.test(`kill -9 of the ${program} loses at most ${most} packets`, async (t) => {
      const loss = await during(() => killAndWait(lab, node, program))
      judgeLoss(t, `kill -9 of the ${program}${back(loss.result)}`, loss, most)
    })
  }

  await t.test('kill -9 of keeper and engine in the same moment comes back by itself', async (t) => {
    const loss = await during(async () => {
      const pids = [...(await processIds(lab, a.node, 'keeper')), ...(await processIds(lab, a.node, 'engine'))]
      await lab.node(a.node, `kill -9 ${pids.join(' ')}`)
    })
    t.diagnostic(`kill -9 of keeper and engine: ${describeLoss(loss)}`)
    await sendMarker(lab, 'a', a, b, MARKER)
  })

  for (const [set, label] of [
    ['pellicle-keeper', 'a rolling update of the keepers'],
    ['cilium', 'a rolling update of the agents'],
  ] as const) {
    await t.test(`${label} loses nothing`, async (t) => {
      const loss = await during(async () => {
        await lab.sh(
          `kubectl -n kube-system rollout restart ds/${set} && kubectl -n kube-system rollout status ds/${set} --timeout=300s`,
          330,
        )
      })
      judgeLoss(t, label, loss)
    })
  }

  // It holds the descriptors and is the first process of its container: its end is the end of the device, until kubelet
  // and the agent have made both again. Nothing is promised but that they do, and that the node stays closed meanwhile.
  await t.test('kill -9 of the supervisor comes back by itself', async (t) => {
    const loss = await during(async () => {
      const seconds = await killAndWait(lab, a.node, 'supervisor')
      await lab.sh('cilium status --wait', 320)
      return seconds
    })
    t.diagnostic(`kill -9 of the supervisor: ${describeLoss(loss)}${back(loss.result)}`)
    assert.ok(loss.longestRun < loss.sent - 1000, 'nothing got through before or after')
    await sendMarker(lab, 'a', a, b, MARKER)
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await wire.count(MARKER), 0)
  })

  await t.test('turning it off loses nothing, and the marker is back', async (t) => {
    const loss = await lossWhile(lab, [a, b], async () => {
      await lab.sh('cilium upgrade --set encryption.enabled=false', 300)
      await everyLevel(lab, 0)
    })
    judgeLoss(t, t.name, loss)
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-AFTER-ALL!')
    assert.ok((await wire.count('CLEAR-AFTER-ALL!')) > 5)
  })
})
