import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Capture } from '#test/kit/capture.ts'
import { everyLevel, labFor } from '#test/kit/lab.ts'
import { Overruns } from '#test/kit/overruns.ts'
import { findPod, Probe, startEcho } from '#test/kit/probe/pods.ts'
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
  await using _echo = await startEcho(lab, b, 7777)
  const full = await Overruns.begin(lab, [a, b])
  /** Nothing is lost but what full queues of this machine's kernel dropped. */
  const judge = async (context: TestContext, what: string, probe: Probe) => {
    const { sent, lost } = await probe.stop()
    const dropped = await full.more()
    context.diagnostic(`${what}: ${lost} of ${sent} packets lost (full queues dropped ${dropped})`)
    assert.ok(sent > 0 && lost <= dropped, `${lost} lost`)
  }
  const say = async (marker: string) => await sendMarker(lab, 'a', a, b, marker, [service])

  await t.test('with encryption off the marker is on the wire', async () => {
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-BEFORE-ALL')
    assert.ok((await wire.count('CLEAR-BEFORE-ALL')) > 5)
  })

  await t.test('turning it on loses nothing', async (t) => {
    const probe = new Probe(lab, a, b, 7777)
    await lab.sh('cilium upgrade --set encryption.enabled=true --set encryption.type=wireguard', 300)
    await everyLevel(lab, 3)
    await judge(t, 'turning on', probe)
  })

  // One capture from here on, through everything that happens to our own programs.
  await using closed = await Capture.start(lab, 'underlay')
  await t.test('traffic goes on, through a Service too', async () => await say('MARKER-ENCRYPTED'))

  await t.test('a rolling update of the agents loses nothing', async (t) => {
    const probe = new Probe(lab, a, b, 7777, { text: 'MARKER-ENCRYPTED' })
    await lab.sh(
      'kubectl -n kube-system rollout restart ds/cilium && kubectl -n kube-system rollout status ds/cilium --timeout=180s',
      240,
    )
    await judge(t, 'rolling update of the agents', probe)
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await closed.count('MARKER-ENCRYPTED'), 0)
  })

  await t.test('turning it off loses nothing, and the marker is back', async (t) => {
    const probe = new Probe(lab, a, b, 7777)
    await lab.sh('cilium upgrade --set encryption.enabled=false', 300)
    await everyLevel(lab, 0)
    await judge(t, 'turning off', probe)
    await using wire = await Capture.start(lab, 'underlay')
    await say('CLEAR-AFTER-ALL!')
    assert.ok((await wire.count('CLEAR-AFTER-ALL!')) > 5)
  })
})
