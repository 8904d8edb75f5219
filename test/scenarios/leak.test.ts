import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { everyLevel } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { labFor } from '#test/kit/lab.ts'
import { judgeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { exposePod, runPods, sendMarker } from '#test/kit/traffic.ts'

// Somebody listens between the nodes all the time: what pods say is heard while encryption is off, so the check can
// fail, and never from the moment it is on.
const NAME = 'leak'

test('nothing is said in clear while encryption is on, and no packet is lost on the way there and back', {
  timeout: 900_000,
}, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  await lab.sh('cilium install --set encryption.enabled=false && cilium status --wait', 300)
  await runPods(lab, { a: `${NAME}-worker`, b: `${NAME}-worker2` })
  const [a, b] = [await findPod(lab, 'a'), await findPod(lab, 'b')]
  const service = await exposePod(lab, 'b')
  /** Nothing is lost but what full queues of this machine's kernel dropped. */
  const losesNothing = async (t: TestContext, event: () => Promise<unknown>, text?: string) => {
    const loss = await lossWhile(lab, [a, b], event, text === undefined ? {} : { text })
    judgeLoss(t, t.name, loss)
  }
  const say = async (marker: string) => await sendMarker(lab, 'a', a, b, marker, [service])

  await t.test('with encryption off the marker is on the wire', async () => {
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-BEFORE-ALL')
    assert.ok((await wire.count('CLEAR-BEFORE-ALL')) > 5)
  })

  await t.test('turning it on loses nothing', async (t) => {
    await losesNothing(t, async () => {
      await lab.sh('cilium upgrade --set encryption.enabled=true --set encryption.type=wireguard', 300)
      await everyLevel(lab, 3)
    })
  })

  // One capture from here on, through everything that happens to our own programs.
  await using closed = await Capture.start(lab, 'underlay')
  await t.test('traffic goes on, through a Service too', async () => await say('MARKER-ENCRYPTED'))

  await t.test('a rolling update of the agents loses nothing', async (t) => {
    const update =
      'kubectl -n kube-system rollout restart ds/cilium && kubectl -n kube-system rollout status ds/cilium --timeout=300s'
    await losesNothing(t, async () => await lab.sh(update, 330), 'MARKER-ENCRYPTED')
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await closed.count('MARKER-ENCRYPTED'), 0)
  })

  await t.test('turning it off loses nothing, and the marker is back', async (t) => {
    await losesNothing(t, async () => {
      await lab.sh('cilium upgrade --set encryption.enabled=false', 300)
      await everyLevel(lab, 0)
    })
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-AFTER-ALL!')
    assert.ok((await wire.count('CLEAR-AFTER-ALL!')) > 5)
  })
})
