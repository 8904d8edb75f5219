import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { announced } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { flowTable, listenForFlows } from '#test/kit/flow-table.ts'
import { type Place, sayAll, wrong } from '#test/kit/flows.ts'
import { eventually, type Lab } from '#test/kit/lab.ts'
import { countFull } from '#test/kit/overruns.ts'
import { describeLoss, judgeLoss, lossOf } from '#test/kit/probe/loss.ts'
import { Probe, startEcho } from '#test/kit/probe/pods.ts'
import { settle } from '#test/kit/processes.ts'
import { BOTH, type DualCluster, ENCRYPTED } from './cluster.ts'

// `nodeEncryption`: nodes' own traffic too, turned on and off under traffic, and nobody is locked out. The control plane
// is opted out by its label, so that a node whose key is lost can say so.

/** Begins and ends with encryption on, and hosts in clear. */
export async function hostsAreEncrypted(t: TestContext, { lab, nodes, place, services }: DualCluster): Promise<void> {
  const node = (name: string) => nodes[name] as Place
  const [a, b] = [place.a as Place, place.b as Place]
  await using _pod = await startEcho(lab, b, 7777)
  await using _host = await startEcho(lab, node('worker2'), 7778)
  await using _other = await startEcho(lab, node('worker2'), 7780)
  await using _third = await startEcho(lab, node('worker2'), 7781)
  const start = async (text = 'probe') => {
    const full = await countFull(lab, [a, b])
    const probes = [
      { what: 'pod to pod', from: a, to: b.ips[4], port: 7777 },
      { what: 'pod to host', from: a, to: node('worker2').ips[6], port: 7778 },
      { what: 'host to host', from: node('worker'), to: node('worker2').ips[4], port: 7780 },
      { what: 'host to host, IPv6', from: node('worker'), to: node('worker2').ips[6], port: 7781 },
    ].map(({ what, from, to, port }) => ({
      what,
      probe: new Probe(lab, from, { ip: to as string }, port, { rate: 50, text }),
    }))
    await Promise.all(probes.map(({ probe }) => probe.started))
    return { full, probes }
  }
  const none = async (step: TestContext, { full, probes }: Awaited<ReturnType<typeof start>>) => {
    // what is said last comes after the change
    await settle(1)
    const results = await Promise.all(probes.map(async ({ what, probe }) => ({ what, ...(await probe.stop()) })))
    const queues = await full()
    for (const { what, ...result } of results) {
      const { sent, lost, gaps } = result
      assert.ok(sent > 100, what)
      if (what === 'pod to pod') judgeLoss(step, what, lossOf(result, queues))
      else {
        // hosts have no levels: turned on, each node closes a moment before its new routes are there. How long that
        // is says the machine; how often, and that it ends, say we
        step.diagnostic(`${what}: ${describeLoss(lossOf(result, queues))}, in ${gaps.length} runs`)
        assert.ok(gaps.length < 10 + queues.dropped && lost < sent / 2, what)
        const [first, length] = gaps.at(-1) ?? [0, 0]
        assert.ok(first + length < sent || queues.dropped > 0, `${what}: the last ${length} were lost`)
      }
    }
  }

  await t.test('turning it on loses nothing between pods, and the API server is there all the time', async (step) => {
    const probes = await start()
    const watched = await watchApiServer(lab, node('worker').node)
    await lab.sh(`cilium upgrade ${ENCRYPTED} --set encryption.nodeEncryption=true`, 300)
    await encryptHosts(lab, ['off', 'on', 'on', 'on'])
    // the control plane says off before and after: its agent may be the last to be replaced
    await lab.sh('cilium status --wait', 320)
    await none(step, probes)
    const { asked, failed } = await watched()
    step.diagnostic(`API server asked ${asked} times from a worker, ${failed} without answer`)
    assert.ok(asked > 5)
    assert.equal(failed, 0)
  })

  await t.test('every node says so', async () => {
    for (const { node: name } of Object.values(nodes)) {
      const pod = `$(kubectl -n kube-system get pods -l k8s-app=cilium --field-selector spec.nodeName=${name} -o name)`
      const said = await lab.sh(`kubectl -n kube-system exec ${pod} -- cilium-dbg status`)
      assert.match(said, name.endsWith('control-plane') ? /NodeEncryption: OptedOut/ : /NodeEncryption: Enabled/)
    }
  })

  await t.test('every flow arrives, and only the control plane itself speaks in clear', async (step) => {
    await using _listening = await listenForFlows(lab, place)
    const seen = await sayAll(lab, flowTable(place, services, BOTH, 'nodes'))
    step.diagnostic(`${seen.length} flows`)
    assert.deepEqual(wrong(seen), [])
    await lab.sh('kubectl exec d -- true && kubectl logs b > /dev/null')
  })

  await t.test('what comes from another host in clear is refused', async () => {
    // with the mark of encrypted packets it leaves its own node past everything that would encrypt or stop it
    const clear = (to: string, patience = '-W 1') =>
      lab.node(node('worker3').node, `ping -c 2 -i 0.2 ${patience} -m 3584 ${to} || true`)
    const counter = () => lab.node(node('worker').node, 'nft list counter inet pellicle host_entered_in_clear')
    for (const family of BOTH) {
      const before = await counter()
      assert.match(await clear(node('worker').ips[family] as string), / 0 received/)
      assert.notEqual(await counter(), before)
    }
    assert.match(await clear(node('control-plane').ips[4] as string, '-w 50'), / 2 received/)
  })

  await using wire = await Capture.start(lab, 'underlay')
  await t.test('a rolling update of agents and keepers loses nothing', async (step) => {
    const probes = await start('HOSTS-UNDER-WAY')
    const update = (set: string) =>
      `kubectl -n kube-system rollout restart ds/${set} && kubectl -n kube-system rollout status ds/${set} --timeout=300s`
    await lab.sh(`${update('cilium')} && ${update('pellicle-keeper')}`, 600)
    await none(step, probes)
  })

  await t.test('a worker that lost its key comes back with another', async () => {
    const key = () =>
      lab.sh(
        `kubectl get ciliumnode ${lab.name}-worker3 -o jsonpath='{.metadata.annotations.network\\.cilium\\.io/wg-pub-key}'`,
      )
    const before = await key()
    // the key lies in memory, as everything below /run
    const power = (verb: string) => `pellicle lab node ${verb} --name ${lab.name} ${lab.name}-worker3`
    await lab.sh(`${power('kill')} && ${power('start')}`)
    await eventually('worker3 announces another key', 180, async () => ((await key()) === before ? undefined : true))
    await lab.sh(`kubectl wait --for=condition=Ready --timeout=240s node/${lab.name}-worker3`, 270)
    await using _back = await startEcho(lab, node('worker3'), 7779)
    for (const family of BOTH) {
      const probe = () =>
        new Probe(lab, node('worker'), { ip: node('worker3').ips[family] as string }, 7779, {
          rate: 50,
          seconds: 0.4,
          text: 'HOSTS-UNDER-WAY',
        }).result()
      await eventually(`worker talks with worker3 by IPv${family}`, 120, async () =>
        (await probe()).lost === 0 ? true : undefined,
      )
    }
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await wire.count('HOSTS-UNDER-WAY'), 0)
  })

  await t.test('turning it off loses nothing between pods, and hosts are in clear again', async (step) => {
    const probes = await start()
    await lab.sh(`cilium upgrade ${ENCRYPTED} --set encryption.nodeEncryption=false`, 300)
    await encryptHosts(lab, ['off', 'off', 'off', 'off'])
    await lab.sh('cilium status --wait', 320)
    await none(step, probes)
    await using after = await Capture.start(lab, 'underlay')
    await new Probe(lab, node('worker'), { ip: node('worker2').ips[4] as string }, 7778, {
      rate: 50,
      seconds: 0.4,
      text: 'HOSTS-IN-CLEAR',
    }).result()
    assert.ok((await after.count('HOSTS-IN-CLEAR')) > 5)
  })
}

/** Waits until the nodes, by name, say that about what they send to each other. */
async function encryptHosts(lab: Lab, expected: readonly string[]): Promise<void> {
  await eventually(`nodes say ${expected.join(', ')}`, 240, async () => {
    return (await announced(lab, 'node-encryption')).join() === expected.join() ? true : undefined
  })
}

/** Asks the API server from a node again and again until the returned function is called. */
async function watchApiServer(lab: Lab, from: string): Promise<() => Promise<{ asked: number; failed: number }>> {
  const script = `while read -rt 0.2 _; [ $? -gt 128 ]; do curl -sk --max-time 15 -o /dev/null https://${lab.name}-control-plane:6443/readyz && echo ok || echo failed; done`
  const child = lab.start(from, 'bash', '-c', script)
  let said = ''
  child.stdout?.on('data', (text: Buffer) => {
    said += text.toString()
  })
  await eventually('the API server answers a worker', 60, async () => (said.includes('ok') ? true : undefined))
  said = ''
  return async () => {
    const closed = once(child, 'close')
    child.stdin?.end()
    await closed
    const lines = said.trim().split('\n')
    return { asked: lines.length, failed: lines.filter((line) => line !== 'ok').length }
  }
}
