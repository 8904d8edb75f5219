import assert from 'node:assert/strict'
import { test } from 'node:test'
import { locateHelm } from '#io/helm/locate.ts'
import { announced, everyNodeSays, rotatedTo } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { createKey, keyText, patchKey, xfrmErrors } from '#test/kit/ipsec.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { judgeLoss, lossWhile } from '#test/kit/probe/loss.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { exposePod, runPods, sendMarker } from '#test/kit/traffic.ts'

// One life of IPsec in a real cluster: without a key it waits and says what to do, with one every pair speaks encrypted, a
// new key loses nothing, a wrong one is told and not taken, agents and engines come and go, and off leaves nothing behind.
const NAME = 'esp'
const MARKER = 'MARKER-BY-IPSEC!'
const DBG = 'kubectl -n kube-system exec ds/cilium -c cilium-agent -- cilium-dbg'

test('ipsec from the first key to the last', { timeout: 1_200_000 }, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return
  const nodes = ['control-plane', 'worker', 'worker2', 'worker3']
  await lab.sh('cilium install --set encryption.enabled=true --set encryption.type=ipsec', 300)

  await t.test('without a key agents run and say what to create, where', async () => {
    await lab.sh('kubectl -n default create secret generic cilium-ipsec-keys --from-literal=keys=misplaced')
    // agents may not look into other namespaces, who asks for the status may
    const told = [
      /no Secret cilium-ipsec-keys in namespace kube-system.*kubectl -n kube-system create secret/,
      /in another namespace: kubectl get secrets -A --field-selector metadata\.name=cilium-ipsec-keys/,
    ]
    await eventually('every agent names the Secret', 240, async () => {
      const pods = (await lab.sh('kubectl -n kube-system get pods -l k8s-app=cilium -o name')).trim().split('\n')
      const logs = await Promise.all(
        pods.map((pod) => lab.sh(`kubectl -n kube-system logs ${pod} -c cilium-agent --tail=200`)),
      )
      return logs.length === 4 && logs.every((log) => told.every((text) => text.test(log))) ? true : undefined
    })
    await eventually('status names the namespace', 120, async () =>
      /there is one in namespace default, where no agent looks/.test(await lab.sh('cilium status 2>&1 || true'))
        ? true
        : undefined,
    )
    await lab.sh('kubectl -n default delete secret cilium-ipsec-keys')
  })

  await createKey(lab, 3)
  await lab.sh('cilium status --wait', 320)
  await runPods(lab, Object.fromEntries(nodes.map((name) => [name, `${NAME}-${name}`])))
  const pods = await Promise.all(nodes.map(async (name) => ({ name, pod: await findPod(lab, name) })))
  const service = await exposePod(lab, 'worker2')
  await rotatedTo(lab, 3)

  await t.test('every pair speaks, and nothing of it is in clear', async (t) => {
    await using wire = await Capture.start(lab, 'underlay')
    await using esp = await Capture.start(lab, 'underlay', { filter: ['udp', 'port', '4500'] })
    await Promise.all(
      pods.map(async (from) => {
        for (const to of pods) if (from !== to) await sendMarker(lab, from.name, from.pod, to.pod, MARKER, [service])
      }),
    )
    assert.equal(await wire.count(MARKER), 0)
    await esp.stop()
    const text = await lab.sh(`tcpdump -nr ${esp.file} 2>/dev/null | grep -c 'ESP(spi=0x00000003,seq=0x'`)
    t.diagnostic(`${text.trim()} ESP packets in UDP`)
    assert.ok(Number(text) > 100)
  })

  await t.test('status is what there is', async () => {
    const status = await lab.sh(`${DBG} status --verbose`)
    assert.match(status, /^Encryption: +IPsec$/m)
    const encrypt = await lab.sh(`${DBG} encrypt status`)
    assert.match(encrypt, /^Decryption interface\(s\): eth0$/m)
    assert.match(encrypt, /^Keys in use: 6 +$/m)
    assert.match(encrypt, /^Errors: 0 *$/m)
    assert.match(encrypt, /^Max Seq\. Number: 0x[0-9a-f]+\/0xffffffffffffffff$/m)
    const dump = JSON.parse(await lab.sh(`${DBG} encrypt dump-xfrm`)) as { fingerprint: string; key?: string }[]
    assert.equal(dump.length, 6)
    assert.ok(dump.every(({ key }) => key === undefined))
    const withKeys = JSON.parse(await lab.sh(`${DBG} encrypt dump-xfrm --show-keys`)) as { key?: string }[]
    assert.ok(withKeys.every(({ key }) => /^[0-9a-f]{40}$/.test(key ?? '')))
    await eventually('every agent answers every other', 120, async () =>
      /^Cluster health: +4\/4 reachable/m.test(await lab.sh(`${DBG} status`)) ? true : undefined,
    )
  })

  await t.test('what is flushed is made again, and goes on counting where it was', async () => {
    const pod = (await lab.sh('kubectl -n kube-system get pods -l k8s-app=cilium -o name | sed -n 1p')).trim()
    const dump = async () => {
      const text = await lab.sh(`kubectl -n kube-system exec ${pod} -c cilium-agent -- cilium-dbg encrypt dump-xfrm`)
      const list = JSON.parse(text) as { direction: string; fingerprint: string; sequence: string }[]
      return new Map(
        list.flatMap((one) => (one.direction === 'out' ? [[one.fingerprint, BigInt(one.sequence)] as const] : [])),
      )
    }
    const before = await dump()
    const said = await lab.sh(`kubectl -n kube-system exec ${pod} -c cilium-agent -- cilium-dbg encrypt flush --spi 3`)
    assert.equal(said, 'Deleted 6 XFRM states.\nDeleted 0 XFRM policies.\n')
    const after = await eventually('all are there again', 60, async () => {
      const now = await dump()
      return now.size === before.size ? now : undefined
    })
    for (const [fingerprint, sequence] of before) assert.ok((after.get(fingerprint) ?? -1n) >= sequence, fingerprint)
  })

  // while they were flushed, packets of others found none
  const flushed = await xfrmErrors(lab)
  const probed = async (what: string, work: () => Promise<void>) => {
    await t.test(what, async (t) => {
      const [a, b] = [pods[1], pods[2]]
      assert.ok(a !== undefined && b !== undefined)
      const loss = await lossWhile(lab, [a.pod, b.pod], work, { text: MARKER })
      judgeLoss(t, what, loss)
    })
  }
  await using closed = await Capture.start(lab, 'underlay')
  await probed('a rotation by patch loses nothing', async () => {
    const began = performance.now()
    await patchKey(lab, keyText(4))
    await rotatedTo(lab, 4)
    t.diagnostic(`patch to old key removed: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  })
  await probed('a wrong text is told and not taken', async () => {
    await patchKey(lab, '5 rfc4106(gcm(aes)) nothex 128')
    await eventually('status tells of the text', 120, async () =>
      /unable to decode AEAD key/.test(await lab.sh(`${DBG} status`)) ? true : undefined,
    )
    const events = await eventually('an event tells of it', 120, async () => {
      const all = await lab.sh('kubectl -n kube-system get events')
      return all.includes('IPsecKeyInvalid') ? all : undefined
    })
    assert.doesNotMatch(events, /nothex/)
    await patchKey(lab, keyText(5))
    await rotatedTo(lab, 5)
  })
  await probed('a rolling update of the agents loses nothing', async () => {
    await lab.sh(
      'kubectl -n kube-system rollout restart ds/cilium && kubectl -n kube-system rollout status ds/cilium --timeout=300s',
      330,
    )
  })
  await t.test('nothing failed, and nothing was in clear', async () => {
    assert.deepEqual(await xfrmErrors(lab), flushed)
    assert.equal(await closed.count(MARKER), 0)
  })

  const [before] = await announced(lab, 'ipsec-keys')
  await probed('off loses nothing and leaves nothing', async () => {
    await lab.sh(SLOW ? await byHand(lab) : 'cilium upgrade --set encryption.enabled=false', 300)
    await eventually('no node has the device', 240, async () =>
      (await devices(lab, nodes)).every((there) => !there) ? true : undefined,
    )
    await everyNodeSays(lab, 'ipsec-keys', /^$/)
  })

  await t.test('on again it begins by what is in the Secret then, not by what was', async (t) => {
    if (!SLOW) return t.skip(SLOW_HINT)
    await lab.sh('kubectl -n kube-system delete secret cilium-ipsec-keys')
    await eventually('the operator says that it is forgotten', 60, async () =>
      (await lab.sh('kubectl -n kube-system get events')).includes('KeyForgotten') ? true : undefined,
    )
    // under the same id
    await createKey(lab, 5)
    await lab.sh(
      'cilium upgrade --set encryption.enabled=true --set encryption.type=ipsec && cilium status --wait',
      300,
    )
    await rotatedTo(lab, 5)
    const now = await announced(lab, 'ipsec-keys')
    assert.equal(new Set(now).size, 1)
    assert.notEqual(now[0], before)
    assert.deepEqual(await xfrmErrors(lab), {})
  })
})

/** As the guide has it: the YAML is made again, with the values of the installation. */
async function byHand(lab: Lab): Promise<string> {
  const helm = await locateHelm(lab.env)
  const chart = new URL('../../deploy/chart', import.meta.url).pathname
  const values = `${helm} get values cilium -n kube-system -o yaml`
  const template = `${helm} template cilium ${chart} -n kube-system --kube-version 1.34.0 -f - --set encryption.enabled=false`
  return `${values} | ${template} | kubectl apply -f -`
}

async function devices(lab: Lab, nodes: readonly string[]): Promise<boolean[]> {
  const look = 'ip link show pellicle_ipsec >/dev/null 2>&1 && echo yes || echo no'
  const answers = await Promise.all(nodes.map((node) => lab.node(`${NAME}-${node}`, look)))
  return answers.map((answer) => answer.trim() === 'yes')
}
