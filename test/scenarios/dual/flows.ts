import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { everyLevel } from '#test/kit/announcements.ts'
import { flowTable, listenForFlows } from '#test/kit/flow-table.ts'
import { type Place, sayAll, wrong } from '#test/kit/flows.ts'
import { eventually } from '#test/kit/lab.ts'
import { countFull } from '#test/kit/overruns.ts'
import { judgeLoss, lossOf } from '#test/kit/probe/loss.ts'
import { Probe, startEcho } from '#test/kit/probe/pods.ts'
import { BOTH, type DualCluster, ENCRYPTED } from './cluster.ts'

// Every kind of traffic of both families, in clear and encrypted. Each flow says a text of its own, so that what is on the
// wire is known flow by flow, and hears as whom it was seen.

/** Leaves encryption on. */
export async function flowsComeThrough(t: TestContext, { lab, nodes, place, services }: DualCluster): Promise<void> {
  const [a, b] = [place.a as Place, place.b as Place]
  await using _listening = await listenForFlows(lab, place)

  await t.test('in clear every flow arrives, and is on the wire', async (step) => {
    const seen = await sayAll(lab, flowTable(place, services, BOTH, 'off'))
    step.diagnostic(`${seen.length} flows`)
    assert.deepEqual(wrong(seen), [])
  })

  await t.test('turning it on loses nothing of either family, to pods and to hosts', async (step) => {
    await using _pod = await startEcho(lab, b, 7777)
    await using _host = await startEcho(lab, nodes.worker2 as Place, 7778)
    const full = await countFull(lab, [a, b])
    const probes = BOTH.flatMap((family) => [
      { what: `IPv${family} to a pod`, probe: new Probe(lab, a, { ip: b.ips[family] as string }, 7777, { rate: 50 }) },
      {
        what: `IPv${family} to a host`,
        probe: new Probe(lab, a, { ip: nodes.worker2?.ips[family] as string }, 7778, { rate: 50 }),
      },
    ])
    await lab.sh(`cilium upgrade ${ENCRYPTED}`, 300)
    await everyLevel(lab, 3)
    const results = await Promise.all(probes.map(async ({ what, probe }) => ({ what, ...(await probe.stop()) })))
    const queues = await full()
    for (const { what, ...result } of results) {
      judgeLoss(step, what, lossOf(result, queues))
      assert.ok(result.sent > 100, what)
    }
  })

  await t.test('encrypted every flow arrives, and what belongs to pods is not on the wire', async () => {
    assert.deepEqual(wrong(await sayAll(lab, flowTable(place, services, BOTH, 'pods'))), [])
  })

  await t.test('names are known on every node, in both families', async () => {
    for (const pod of ['a', 'b', 'c', 'd']) {
      const said = await lab.sh(`kubectl exec ${pod} -- getent ahosts b.default.svc.cluster.local`)
      for (const family of BOTH) assert.ok(said.includes(services.b[family] as string), `${pod}: ${said}`)
    }
  })

  await t.test('kubectl reaches into pods, and kubelet probes them', async () => {
    assert.equal((await lab.sh('kubectl exec d -- hostname')).trim(), 'd')
    await lab.sh('echo carried > /tmp/families-cp && kubectl cp /tmp/families-cp d:/tmp/cp && rm /tmp/families-cp')
    assert.equal((await lab.sh('kubectl exec d -- cat /tmp/cp')).trim(), 'carried')
    await lab.sh('kubectl logs c')
    const forwarded = `kubectl port-forward pod/b :80 > forward.$$ & pid=$!; trap 'kill $pid; rm -f forward.$$' EXIT
      for i in $(seq 600); do port=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\).*/\\1/p' forward.$$); [ -n "$port" ] && break; sleep 0.1; done
      curl -fsS --max-time 30 http://127.0.0.1:$port/`
    assert.match(await lab.sh(`cd "$(mktemp -d)"; ${forwarded}`), /^b /)
    const probed = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'probed' },
      spec: {
        terminationGracePeriodSeconds: 0,
        nodeName: `${lab.name}-worker2`,
        containers: [
          {
            name: 'main',
            image: 'localhost/pellicle-examples:0.1.0',
            imagePullPolicy: 'Never',
            command: ['web'],
            readinessProbe: { httpGet: { path: '/', port: 80 }, periodSeconds: 1 },
            livenessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 },
          },
        ],
      },
    }
    await lab.sh(`kubectl apply -f - <<'EOT'\n${JSON.stringify(probed)}\nEOT`)
    await lab.sh('kubectl wait --for=condition=Ready --timeout=150s pod/probed')
  })

  await t.test('full packets get through uncut, larger ones are told so', async () => {
    // -w: until so many are answered, or one is refused
    for (const family of BOTH) {
      const full = 1420 - (family === 4 ? 28 : 48)
      const to = [
        b,
        place.c as Place,
        place.near as Place,
        ...['worker', 'worker2', 'control-plane'].map((name) => nodes[name] as Place),
      ]
      await Promise.all(
        to.map(async ({ name, ips }) => {
          const ping = `kubectl exec a -- ping -c 1 -w 60 -M do -s ${full} ${ips[family]}`
          assert.match(await lab.sh(ping), / 1 received/, `${name} IPv${family}`)
        }),
      )
      const url = family === 4 ? b.ips[4] : `[${b.ips[6]}]`
      const size = await lab.sh(
        `kubectl exec a -- curl -fsS --max-time 100 -o /dev/null -w '%{size_download}' http://${url}/bytes/5000000`,
      )
      assert.equal(size, '5000000')
    }
    // somewhere on the way to a host less fits: the pod is told. Encrypted packets are cut on the way instead.
    const control = nodes['control-plane'] as Place
    for (const family of BOTH) {
      const route = (verb: string, where: Place) => `ip -${family} route ${verb} ${where.ips[family]} dev eth0 mtu 1300`
      await lab.node(a.node, `${route('add', control)} && ${route('add', nodes.worker2 as Place)}`)
      const ping = (ip: string | undefined) => `kubectl exec a -- ping -c 2 -w 30 -M do -s 1350 ${ip} || true`
      assert.match(await lab.sh(ping(control.ips[family])), /mtu ?= ?1300|Packet too big/i)
      assert.match(await lab.sh(ping(b.ips[family])), / 2 received/)
      await lab.node(a.node, `${route('del', control)} && ${route('del', nodes.worker2 as Place)}`)
    }
  })

  await t.test('pods reach what is outside as their node', async (step) => {
    const outside = `curl -sS --max-time 5 -o /dev/null http://deb.debian.org/`
    const reachable = await lab.node(a.node, outside).then(
      () => true,
      () => false,
    )
    if (!reachable) return step.skip('needs a way outside')
    await eventually('a pod reaches it as well', 60, async () => {
      await lab.sh(`kubectl exec a -- ${outside}`)
      return true
    })
  })
}
