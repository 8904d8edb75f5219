import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Capture } from '#test/kit/capture.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { judgeLoss, watchLoss } from '#test/kit/probe/loss.ts'
import { findPod } from '#test/kit/probe/pods.ts'
import { killAndWait, processIds } from '#test/kit/processes.ts'
import { runPods } from '#test/kit/traffic.ts'

// What people and machines get wrong in a real cluster. Each time: somebody is told what, where and what to do, in
// `cilium status`; two pods that have nothing to do with it talk on at 1,000 packets a second; nothing goes out in clear.
const NAME = 'sv'
const MARKER = 'MARKER-BAD-INPUT'
const [CONTROL_PLANE, WORKER, WORKER2, WORKER3] = ['control-plane', 'worker', 'worker2', 'worker3'].map(
  (name) => `${NAME}-${name}`,
) as [string, string, string, string]
/** The agent of a node that may be spoilt is made anew. */
const DELETE = `kubectl -n kube-system delete pod -l k8s-app=cilium --field-selector spec.nodeName=${WORKER3}`
const RENEW = `${DELETE} && cilium status --wait`
const KEY_FILE = '/var/run/cilium/state/cilium_wg0.key'

test('what is wrong is told with its remedy, and costs nobody else anything', { timeout: 1_200_000 }, async (t) => {
  await using lab = await labFor(t, NAME)
  if (lab === undefined) return

  await t.test('a UDP port that somebody else has', async () => {
    const taker = lab.start(WORKER3, 'bash', '-c', 'exec node -e "$0"', TAKE_PORT)
    await eventually('the taker has the port', 60, async () => {
      return (await lab.node(WORKER3, 'ss -Hlnu sport = :51871')).includes('51871') ? true : undefined
    })
    await lab.sh('cilium install --set encryption.enabled=true --set encryption.type=wireguard', 300)
    await told(lab, /51871.*(in use|taken)/)
    taker.stdin?.end()
    await lab.sh('cilium status --wait', 320)
  })

  await runPods(lab, { a: WORKER, b: WORKER2, c: WORKER3 })
  const [a, b, c] = [await findPod(lab, 'a'), await findPod(lab, 'b'), await findPod(lab, 'c')]
  await using wire = await Capture.start(lab, 'underlay')
  const ended = await watchLoss(lab, [a, b], { text: MARKER })
  const asks = (seconds: number) =>
    `kubectl exec a -- curl -fsS --max-time ${seconds} -o /dev/null -H 'X-Marker: ${MARKER}' http://${c.ip}/`
  const reaches = asks(30)
  const cReachable = async () => {
    await eventually('c is reached', 60, async () => {
      await lab.sh(reaches)
      return true
    })
  }
  await cReachable()

  const third = JSON.parse(await lab.sh(`kubectl get ciliumnode ${WORKER3} -o json`)) as CiliumNodeJson
  for (const [what, change, message, cutsOff] of [
    ['a public key that another node has', {}, /announce the same public key/, true],
    ['a public key of zeros', { key: `${'A'.repeat(43)}=` }, /public key.*all zero/, false],
    ['no address', { key: OTHER_KEY, addresses: [] }, /CiliumNode\/ghost.*address/, false],
    [
      'a pod CIDR that holds all others',
      { key: OTHER_KEY, claimed: '10.244.0.0/16' },
      /10\.244\.0\.0\/16.*does not have/,
      false,
    ],
    ['the pod CIDR of another node', { key: OTHER_KEY, granted: c.ip.replace(/\d+$/, '0/24') }, /overlap/, true],
  ] as const satisfies readonly (readonly [string, Change, RegExp, boolean])[]) {
    await t.test(`a node with ${what}`, async () => {
      await lab.sh(applyGhost(third, change))
      try {
        await told(lab, message)
        if (cutsOff) {
          await eventually('c is cut off rather than sent to the wrong node', 60, async () => {
            await lab.sh(`! ${asks(2)}`)
            return true
          })
        } else await lab.sh(reaches)
      } finally {
        await lab.sh('kubectl delete node ghost && kubectl delete --ignore-not-found ciliumnode ghost')
      }
      await cReachable()
    })
  }

  for (const [what, spoil, message] of [
    ['one byte short', `truncate -s 31 ${KEY_FILE}`, /has 31 bytes, not 32.*(Restore the 32 bytes)/s],
    ['readable by all', `chmod 644 ${KEY_FILE}`, /may be read by others.*chmod 600/s],
  ] as const) {
    await t.test(`a key file ${what} is told and not replaced`, async () => {
      const sum = `sha256sum ${KEY_FILE}`
      await lab.node(WORKER3, `cp -a ${KEY_FILE} /root/saved && ${spoil}`)
      const spoilt = await lab.node(WORKER3, sum)
      await killAndWait(lab, WORKER3, 'agent')
      await told(lab, message)
      await lab.sh(reaches)
      assert.equal(await lab.node(WORKER3, sum), spoilt)
      await lab.node(WORKER3, `cp -a /root/saved ${KEY_FILE}`)
      // rather than waiting for kubelet, which waits longer each time
      await lab.sh(RENEW, 420)
      await lab.sh(reaches)
    })
  }

  await t.test('a wrong value in the ConfigMap', async () => {
    const patch = (value: string) =>
      `kubectl -n kube-system patch cm cilium-config -p '{"data":{"enable-wireguard":"${value}"}}'`
    await lab.sh(`${patch('perhaps')} && ${DELETE}`)
    await told(lab, /enable-wireguard.*perhaps|perhaps.*enable-wireguard/s)
    await lab.sh(reaches)
    await lab.sh(`${patch('true')} && ${RENEW}`, 420)
    await lab.sh(reaches)
  })

  await t.test('a full disk: a new pod waits, running ones do not, and it goes on when there is room', async () => {
    const folders = ['/var/run/cilium/state', '/var/lib/cilium']
    const small = folders.map(
      (path) =>
        `cp -a ${path} /root/copy && mount -t tmpfs -o size=64k none ${path} && cp -a /root/copy/. ${path} && rm -r /root/copy`,
    )
    await lab.node(WORKER3, small.join(' && '))
    await lab.sh(RENEW, 420)
    const known = await lab.node(WORKER3, 'cat /var/lib/cilium/endpoints.json')
    await lab.node(WORKER3, folders.map((path) => `cat /dev/zero >${path}/fill 2>/dev/null || true`).join('; '))
    const starting = runPods(lab, { d: WORKER3 })
    await eventually('the pod says why it waits', 120, async () => {
      const events = await lab.sh('kubectl get events --field-selector involvedObject.name=d')
      return /no space|disk is full/i.test(events) ? true : undefined
    })
    assert.equal(await lab.node(WORKER3, 'cat /var/lib/cilium/endpoints.json'), known)
    await lab.sh(reaches)
    await lab.node(WORKER3, folders.map((path) => `rm ${path}/fill`).join('; '))
    await starting
    const d = await findPod(lab, 'd')
    await lab.sh(`kubectl exec a -- curl -fsS --max-time 30 -o /dev/null http://${d.ip}/`)
  })

  await t.test('an API server that does not answer for a while', async () => {
    const [pid] = await processIds(lab, CONTROL_PLANE, 'kube-apiserver')
    await lab.node(CONTROL_PLANE, `kill -STOP ${pid}`)
    try {
      await sleep(10_000)
      const { ip, netns } = a
      assert.ok(ip !== '')
      await lab.node(a.node, `ip netns exec ${netns} ping -c 3 -i 0.2 -w 50 ${c.ip}`)
    } finally {
      await lab.node(CONTROL_PLANE, `kill -CONT ${pid}`)
    }
    await lab.sh('cilium status --wait', 320)
  })

  await t.test('the two pods that had nothing to do with it lost nothing, and nothing was in clear', async () => {
    const loss = await ended()
    judgeLoss(t, 'over everything that was wrong', loss)
    assert.equal(await wire.count(MARKER), 0)
  })
})

const TAKE_PORT = `
  const socket = require('node:dgram').createSocket('udp4')
  socket.bind(51871)
  process.stdin.resume().on('end', () => process.exit())`
/** A right one that nobody has. */
const OTHER_KEY = Buffer.alloc(32, 9).toString('base64')

interface CiliumNodeJson {
  apiVersion: string
  kind: string
  metadata: { name: string; annotations: Record<string, string> }
  spec: { addresses: { type: string; ip: string }[]; ipam: { podCIDRs: string[] } }
}

interface Change {
  readonly key?: string
  readonly addresses?: readonly []
  /** What the Node has in its spec.podCIDRs, and what its CiliumNode says instead if it says something else. */
  readonly granted?: string
  readonly claimed?: string
}

/** A command that makes a Node `ghost` that nothing runs on, with a CiliumNode from what a real one says. */
function applyGhost(node: CiliumNodeJson, change: Change): string {
  const { apiVersion, kind, metadata, spec } = structuredClone(node)
  const annotations = { ...metadata.annotations }
  if (change.key !== undefined) annotations['network.cilium.io/wg-pub-key'] = change.key
  const granted = change.granted ?? '10.244.99.0/24'
  const internal = { type: 'InternalIP', ip: '172.18.200.200' }
  const ciliumNode = {
    apiVersion,
    kind,
    metadata: { name: 'ghost', annotations },
    spec: {
      ...spec,
      addresses: change.addresses ?? [internal],
      ipam: { ...spec.ipam, podCIDRs: [change.claimed ?? granted] },
    },
  }
  const kubernetesNode = {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'ghost' },
    spec: { podCIDR: granted, podCIDRs: [granted] },
  }
  const status = { status: { addresses: [{ type: internal.type, address: internal.ip }] } }
  return [
    `kubectl create -f - <<<'${JSON.stringify(kubernetesNode)}'`,
    `kubectl patch node ghost --subresource=status -p '${JSON.stringify(status)}'`,
    `kubectl create -f - <<<'${JSON.stringify(ciliumNode)}'`,
  ].join('\n')
}

/** `cilium status` says it, as error or warning. */
async function told(lab: Lab, message: RegExp): Promise<void> {
  let last = ''
  await eventually(`cilium status says ${message}`, 180, async () => {
    last = await lab.sh('cilium status 2>&1 || true')
    return message.test(last.replace(/\s+/g, ' ')) ? true : undefined
  }).catch((error: unknown) => {
    throw new Error(`cilium status does not say ${message}:\n${last}`, { cause: error })
  })
}
