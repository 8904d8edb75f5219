import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { openProgress } from '#apps/lab/progress/progress.ts'
import { everyLevel, everyNodeSays, rotatedTo } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { createKey, keyText, patchKey } from '#test/kit/ipsec.ts'
import { Lab } from '#test/kit/lab.ts'
import { type Loss, watchLoss } from '#test/kit/probe/loss.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { measureStream } from '#test/kit/stream.ts'
import { exposePod, runPods, sendMarker } from '#test/kit/traffic.ts'
import { beside } from './columns.ts'

// make demo: real pods on a real four-node cluster, first in clear, then encrypted, with somebody listening in between.
// Every claim is checked; one that does not hold ends the demo with exit code 1.
const NAME = 'demo'
const MARKER = 'MARKER-IN-A-DEMO'
const run = promisify(execFile)
const progress = openProgress(process.stderr, process.stderr.isTTY, () => Date.now())
const say = (text = '') => console.log(text)

function claim(holds: boolean, text: string): void {
  say(`  ${holds ? '✓' : '✗'} ${text}`)
  if (!holds) throw new Error(`not so: ${text}`)
}

/** Nothing was lost but what this machine's own queues dropped, which is said. */
function claimNothingLost({ sent, lost, full, ours }: Loss): void {
  const why = full.dropped === 0 ? '' : ` (${full.dropped} where a queue of this busy machine was full)`
  claim(sent > 0 && ours === 0, `${lost} of ${sent} packets were lost on the way${why}`)
}

async function readLines(file: string, filter: string, count: number): Promise<string[]> {
  const { stdout } = await run('tcpdump', ['-n', '-t', '-q', '-r', file, '-c', String(count), ...filter.split(' ')])
  return stdout.trim().split('\n')
}

await using lab = await Lab.up(NAME, [], 'inherit')
process.once('SIGINT', () => void lab[Symbol.asyncDispose]().finally(() => process.exit(130)))
await progress.step('Installing with encryption off', async () => {
  await lab.sh('cilium install --set encryption.enabled=false && cilium status --wait', 300)
})
await progress.step(
  'Starting two pods on two nodes',
  async () => await runPods(lab, { one: `${NAME}-worker`, two: `${NAME}-worker2` }),
)
const [one, two] = [await findPod(lab, 'one'), await findPod(lab, 'two')]
const service = await exposePod(lab, 'two')

say('\nEncryption off: ping, HTTP and UDP from one to two, all saying a marker')
{
  await using wire = await Capture.start(lab, 'underlay')
  await sendMarker(lab, 'one', one, two, MARKER, [service])
  const found = await wire.count(MARKER)
  claim(found > 0, `between the nodes the marker is read ${found} times`)
}

say('\nTurning encryption on, with 1,000 UDP packets a second on their way')
const turningOn = await watchLoss(lab, [one, two], { text: MARKER })
await progress.step('Upgrading to encryption.type=wireguard', async () => {
  await lab.sh('cilium upgrade --set encryption.enabled=true --set encryption.type=wireguard', 300)
  await everyLevel(lab, 3)
})
claimNothingLost(await turningOn())

say('\nEncryption on: the same again, and an iperf3 stream')
{
  await using wire = await Capture.start(lab, 'underlay')
  await using inside = await Capture.start(lab, `${NAME}-worker`, {
    device: 'cilium_wg0',
    filter: ['icmp', 'or', 'port', '80'],
  })
  await sendMarker(lab, 'one', one, two, MARKER, [service])
  await Promise.all([wire.stop(), inside.stop()])
  const lines = beside(
    ['on cilium_wg0, before encryption', ...(await readLines(inside.file, 'ip', 6))],
    ['between the nodes', ...(await readLines(wire.file, 'udp port 51871', 6))],
    Math.min(process.stdout.columns ?? 150, 170),
  )
  for (const line of lines) say(`  ${line}`)
  claim((await wire.count(MARKER)) === 0, 'between the nodes the marker is read 0 times')
  claim((await inside.count(MARKER)) > 0, 'and it was sent: it is read on cilium_wg0')
}
const gigabits = await measureStream(lab, one, two, 5)
claim(gigabits > 0, `one TCP stream of iperf3: ${gigabits.toFixed(2)} Gbit/s`)
const agent = `$(kubectl -n kube-system get pod -l k8s-app=cilium --field-selector spec.nodeName=${NAME}-worker -o name)`
say(`  ${(await lab.sh(`kubectl -n kube-system exec ${agent} -- cilium status | grep Encryption:`)).trim()}`)

say('\nFrom WireGuard to IPsec, and the key changed three times, with 1,000 UDP packets a second on their way')
{
  await using wire = await Capture.start(lab, 'underlay')
  const rotating = await watchLoss(lab, [one, two], { text: MARKER })
  await progress.step('Upgrading to encryption.type=ipsec', async () => {
    await createKey(lab, 3)
    await lab.sh('cilium upgrade --set encryption.type=ipsec', 300)
    await everyNodeSays(lab, 'encryption-mode', /^3\./)
  })
  await progress.step('kubectl patch secret cilium-ipsec-keys, three times', async () => {
    for (const id of [4, 5, 6]) {
      await patchKey(lab, keyText(id))
      await rotatedTo(lab, id)
    }
  })
  claimNothingLost(await rotating())
  await wire.stop()
  for (const line of await readLines(wire.file, 'udp port 4500', 4)) say(`  ${line}`)
  claim((await wire.count(MARKER)) === 0, 'between the nodes the marker is read 0 times meanwhile')
}

say('\nFound in clear while encryption was on: nothing. Next: `make lab`, then the tour in README.md.')
