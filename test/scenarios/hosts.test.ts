import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { announced } from '#test/kit/announcements.ts'
import { Capture } from '#test/kit/capture.ts'
import { FLOW_PODS, flowTable, listenForFlows, makeFlowPods } from '#test/kit/flow-table.ts'
import { type Family, type Place, places, sayAll, wrong } from '#test/kit/flows.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { Probe, startEcho } from '#test/kit/probe/pods.ts'

// `nodeEncryption`: nodes' own traffic too, turned on and off under traffic, and nobody is locked out. The control plane
// is opted out by its label, so that a node whose key is lost can say so.
const BOTH: readonly Family[] = [4, 6]
const INSTALL = '--set ipv6.enabled=true --set encryption.enabled=true --set encryption.type=wireguard'

test('hosts are encrypted when asked for, and nobody is locked out', { timeout: 600_000 }, async (t) => {
  await using lab = await labFor(t, 'hosts', ['--ip-family', 'dual'])
  if (lab === undefined) return
  await lab.sh(`cilium install ${INSTALL} && cilium status --wait`, 300)
  const nodes = await places(lab, [])
  const node = (name: string) => nodes[name] as Place
  const services = await makeFlowPods(lab, BOTH, node('worker2').ips)
  const place = await places(lab, FLOW_PODS)
  const [a, b] = [place.a as Place, place.b as Place]
  await using _pod = await startEcho(lab, b, 7777)
  await using _host = await startEcho(lab, node('worker2'), 7778)
  await using _other = await startEcho(lab, node('worker2'), 7780)
  await using _third = await startEcho(lab, node('worker2'), 7781)
  const start = (text = 'probe') =>
    [
      { what: 'pod to pod', from: a, to: b.ips[4], port: 7777 },
      { what: 'pod to host', from: a, to: node('worker2').ips[6], port: 7778 },
      { what: 'host to host', from: node('worker'), to: node('worker2').ips[4], port: 7780 },
      { what: 'host to host, IPv6', from: node('worker'), to: node('worker2').ips[6], port: 7781 },
    ].map(({ what, from, to, port }) => ({
      what,
      probe: new Probe(lab, from, { ip: to as string }, port, { rate: 50, text }),
    }))
  const none = async (step: { diagnostic(text: string): void }, probes: ReturnType<typeof start>) => {
    const results = await Promise.all(probes.map(async ({ what, probe }) => ({ what, ...(await probe.stop()) })))
    for (const { what, sent, lost, longestRun } of results) {
      step.diagnostic(`${what}: ${lost} of ${sent} packets lost, at most ${longestRun} in a row`)
      assert.ok(sent > 100, what)
      // hosts have no levels: turned on, each node closes a moment before its new routes are there
      if (what === 'pod to pod') assert.equal(lost, 0, what)
      else assert.ok(lost < 10, what)
    }
  }

  await t.test('turning it on loses nothing between pods, and the API server is there all the time', async (step) => {
    const probes = start()
    const watched = await watchApiServer(lab, node('worker').node)
    await lab.sh(`cilium upgrade ${INSTALL} --set encryption.nodeEncryption=true`, 300)
    await encryptHosts(lab, ['off', 'on', 'on', 'on'])
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
    const clear = (to: string) => lab.node(node('worker3').node, `ping -c 2 -i 0.2 -W 1 -m 3584 ${to} || true`)
    const counter = () => lab.node(node('worker').node, 'nft list counter inet pellicle host_entered_in_clear')
    for (const family of BOTH) {
      const before = await counter()
      assert.match(await clear(node('worker').ips[family] as string), / 0 received/)
      assert.notEqual(await counter(), before)
    }
    assert.match(await clear(node('control-plane').ips[4] as string), / 2 received/)
  })

  await using wire = await Capture.start(lab, 'underlay')
  await t.test('a rolling update of agents and keepers loses nothing', async (step) => {
    const probes = start('HOSTS-UNDER-WAY')
    const update = (set: string) =>
      `kubectl -n kube-system rollout restart ds/${set} && kubectl -n kube-system rollout status ds/${set} --timeout=180s`
    await lab.sh(`${update('cilium')} && ${update('pellicle-keeper')}`, 300)
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
    await eventually('worker3 announces another key', 90, async () => ((await key()) === before ? undefined : true))
    await lab.sh(`kubectl wait --for=condition=Ready --timeout=60s node/${lab.name}-worker3`, 90)
    await using _back = await startEcho(lab, node('worker3'), 7779)
    for (const family of BOTH) {
      const probe = () =>
        new Probe(lab, node('worker'), { ip: node('worker3').ips[family] as string }, 7779, {
          rate: 50,
          seconds: 0.4,
          text: 'HOSTS-UNDER-WAY',
        }).result()
      await eventually(`worker talks with worker3 by IPv${family}`, 60, async () =>
        (await probe()).lost === 0 ? true : undefined,
      )
    }
  })

  await t.test('nothing of all that was on the wire in clear', async () => {
    assert.equal(await wire.count('HOSTS-UNDER-WAY'), 0)
  })

  await t.test('turning it off loses nothing between pods, and hosts are in clear again', async (step) => {
    const probes = start()
    await lab.sh(`cilium upgrade ${INSTALL} --set encryption.nodeEncryption=false`, 300)
    await encryptHosts(lab, ['off', 'off', 'off', 'off'])
    await none(step, probes)
    await using after = await Capture.start(lab, 'underlay')
    await new Probe(lab, node('worker'), { ip: node('worker2').ips[4] as string }, 7778, {
      rate: 50,
      seconds: 0.4,
      text: 'HOSTS-IN-CLEAR',
    }).result()
    assert.ok((await after.count('HOSTS-IN-CLEAR')) > 5)
  })
})

/** Waits until the nodes, by name, say that about what they send to each other. */
async function encryptHosts(lab: Lab, expected: readonly string[]): Promise<void> {
  await eventually(`nodes say ${expected.join(', ')}`, 120, async () => {
    return (await announced(lab, 'node-encryption')).join() === expected.join() ? true : undefined
  })
}

/** Asks the API server from a node again and again until the returned function is called. */
async function watchApiServer(lab: Lab, from: string): Promise<() => Promise<{ asked: number; failed: number }>> {
  const script = `while read -rt 0.2 _; [ $? -gt 128 ]; do curl -sk --max-time 3 -o /dev/null https://${lab.name}-control-plane:6443/readyz && echo ok || echo failed; done`
  const child = lab.start(from, 'bash', '-c', script)
  let said = ''
  child.stdout?.on('data', (text: Buffer) => {
    said += text.toString()
  })
  await eventually('the API server answers a worker', 20, async () => (said.includes('ok') ? true : undefined))
  said = ''
  return async () => {
    const closed = once(child, 'close')
    child.stdin?.end()
    await closed
    const lines = said.trim().split('\n')
    return { asked: lines.length, failed: lines.filter((line) => line !== 'ok').length }
  }
}
