import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { everyLevel, rotatedTo } from '#test/kit/announcements.ts'
import { createKey } from '#test/kit/ipsec.ts'
import { eventually, type Lab, labFor } from '#test/kit/lab.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { CiliumCli, ciliumCli } from './cilium-cli.ts'

// Cilium's own CLI is a client of a cluster of ours, and ours beside it says the same.
const NODES = 4
const IPSEC = '--set encryption.enabled=true --set encryption.type=ipsec'
const NATIVE = '--set routingMode=native,ipv4NativeRoutingCIDR=10.244.0.0/16,autoDirectNodeRoutes=true'
/** To and from each other node. */
const KEYS = 2 * (NODES - 1)

const GCM = (id: number) => new RegExp(`^${id}\\+ rfc4106\\(gcm\\(aes\\)\\) [0-9a-f]{40} 128$`)

interface StatusJson {
  readonly pod_state: Readonly<
    Record<string, Readonly<Record<'Desired' | 'Ready' | 'Available' | 'Unavailable', number>>>
  >
  readonly phase_count: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly image_count: Readonly<Record<string, Readonly<Record<string, number>>>>
  readonly cilium_status: Readonly<Record<string, { readonly encryption: { readonly mode: string } }>>
  readonly cilium_endpoints?: Readonly<Record<string, readonly { status: { state: string } }[]>>
  readonly errors: Readonly<Record<string, Readonly<Record<string, { Errors: unknown[]; Warnings: unknown[] }>>>>
  readonly collection_errors?: readonly unknown[]
  readonly helm_chart_version: string
}

interface EncryptionJson {
  readonly 'total-node-count': number
  readonly 'enc-ipsec-node-count'?: number
  readonly 'enc-wireguard-node-count'?: number
  readonly 'ipsec-keys-in-use-node-count'?: Readonly<Record<string, number>>
  readonly 'ipsec-max-seq-num'?: string
  readonly 'ipsec-expected-key-count'?: number
  readonly 'ipsec-key-rotation-in-progress'?: boolean
  readonly 'ipsec-err-count'?: number
  readonly 'xfrm-errors'?: Readonly<Record<string, number>>
  readonly 'xfrm-error-node-count'?: Readonly<Record<string, number>>
}

test('Cilium’s own CLI', { timeout: 1_500_000 }, async (t) => {
  if (!SLOW) return t.skip(SLOW_HINT)
  const built = await ciliumCli()
  if ('missing' in built) return t.skip(built.missing)
  await using lab = await labFor(t, 'ccli')
  if (lab === undefined) return
  using cli = new CiliumCli(built.program, lab.env)

  await t.test(
    'IPsec, routed natively: every key that it expects is in use, also after it has rotated them',
    async (t) => {
      await createKey(lab, 3)
      await installed(lab, cli, `${NATIVE} ${IPSEC}`, async () => {
        await sameStatus(lab, cli, 'IPsec')
        await sameConfig(lab, cli, ['enable-ipsec', 'true'], ['routing-mode', 'native'])
        await restingIpsec(t, lab, cli, KEYS)
        const before = await sameKey(lab, cli)

        const rotated = await cli.say('encryption', 'rotate-key')
        assert.equal(rotated, 'IPsec key successfully rotated, new key SPI: 4\n')
        await rotatedTo(lab, 4)
        const after = await sameKey(lab, cli)
        assert.match(after, GCM(4))
        assert.notEqual(after.split(' ')[2], before.split(' ')[2])
        await restingIpsec(t, lab, cli, KEYS)

        // it takes what ours has written, and ours what it has: another algorithm, and back
        assert.match(await cli.say('encryption', 'rotate-key', '--auth-algo', 'hmac-sha256'), /new key SPI: 5\n$/)
        await rotatedTo(lab, 5)
        assert.match(await sameKey(lab, cli), /^5\+ hmac\(sha256\) [0-9a-f]{32} cbc\(aes\) [0-9a-f]{32}$/)
        assert.match(await lab.sh('cilium encryption rotate-key --auth-algo gcm-aes'), /new key SPI: 6\n$/)
        assert.match(await sameKey(lab, cli), GCM(6))
        assert.match(await cli.say('encryption', 'rotate-key'), /new key SPI: 7\n$/)
        await rotatedTo(lab, 7)
        await restingIpsec(t, lab, cli, KEYS)
      })
    },
  )

  await t.test(
    'IPsec by tunnel: it expects a second pair of keys for each pair of nodes, which there is not',
    async (t) => {
      await installed(lab, cli, IPSEC, async () => {
        await sameStatus(lab, cli, 'IPsec')
        await sameConfig(lab, cli, ['enable-ipsec', 'true'], ['routing-mode', 'tunnel'])
        // Cilium from 1.18 on has associations for pods and others for its tunnel there; here one pair serves both
        await restingIpsec(t, lab, cli, 2 * KEYS)
      })
    },
  )

  await t.test('WireGuard', async (t) => {
    await lab.sh('kubectl -n kube-system delete secret cilium-ipsec-keys')
    await installed(lab, cli, '--set encryption.enabled=true --set encryption.type=wireguard', async () => {
      await sameStatus(lab, cli, 'Wireguard')
      await sameConfig(lab, cli, ['enable-wireguard', 'true'])
      const text = await cli.say('encryption', 'status')
      t.diagnostic(text.trim())
      assert.equal(text, `Encryption: Wireguard (${NODES}/${NODES} nodes)\n\n`)
      assert.equal(await lab.sh('cilium encryption status'), text)
      const report = await cli.json<EncryptionJson>('encryption', 'status')
      assert.deepEqual(report, { 'total-node-count': NODES, 'enc-wireguard-node-count': NODES })
      assert.deepEqual(await nodesOf(lab, cli), await nodeNames(lab))
      // and what it says where there is no key
      const { code, stderr } = await cli.ask('encryption', 'key-status')
      assert.equal(code, 1)
      assert.match(stderr, /failed to fetch IPsec secret/)

      // a release that was asked for is the one that agents say
      await lab.sh('cilium upgrade --version 1.15.0 && cilium status --wait', 240)
      const { stderr: old } = await cli.ask('encryption', 'status')
      assert.match(old, /Cilium version is too old: 1\.15\.0 \(command is supported since 1\.18\)/)
    })
  })
})

/** Installs with our CLI, waits with the other one, and removes all of it after `work`. */
async function installed(lab: Lab, cli: CiliumCli, flags: string, work: () => Promise<void>): Promise<void> {
  const remove = () => lab.sh('cilium uninstall --wait', 240)
  try {
    await lab.sh(`cilium install ${flags}`, 300)
    const text = await cli.say('status', '--wait', '--wait-duration', '4m', '--interactive=false')
    for (const component of ['Cilium', 'Operator']) {
      assert.match(text, new RegExp(`${component}:\\s+\\S*OK`), text)
    }
    assert.match(text, new RegExp(`DaemonSet\\s+cilium\\s+Desired: ${NODES}, Ready: \\S*${NODES}/${NODES}`), text)
    assert.match(text, /Deployment\s+cilium-operator\s+Desired: 1, Ready: \S*1\/1/, text)
    assert.doesNotMatch(text, /Errors:|Warnings:/)
    await everyLevel(lab, 3)
    await work()
  } catch (error) {
    // what went wrong first is what is told
    await remove().catch(() => undefined)
    throw error
  }
  await remove()
}

/** `status -o json` of both: what they name alike is alike. */
async function sameStatus(lab: Lab, cli: CiliumCli, mode: string): Promise<void> {
  const theirs = await cli.json<StatusJson>('status')
  const ours = JSON.parse(await lab.sh('cilium status -o json')) as StatusJson
  for (const component of ['cilium', 'cilium-operator']) {
    for (const key of ['Desired', 'Ready', 'Available', 'Unavailable'] as const) {
      assert.equal(theirs.pod_state[component]?.[key], ours.pod_state[component]?.[key], `${component} ${key}`)
    }
    assert.deepEqual(theirs.phase_count[component], ours.phase_count[component])
    assert.deepEqual(theirs.image_count[component], ours.image_count[component])
  }
  assert.equal(theirs.pod_state['cilium']?.Ready, NODES)
  assert.equal(theirs.helm_chart_version, ours.helm_chart_version)
  const agents = Object.keys(ours.cilium_status).toSorted()
  assert.equal(agents.length, NODES)
  assert.deepEqual(Object.keys(theirs.cilium_status).toSorted(), agents)
  for (const agent of agents) {
    assert.equal(theirs.cilium_status[agent]?.encryption.mode, mode)
    assert.equal(ours.cilium_status[agent]?.encryption.mode, mode)
  }
  // every agent has told of its pods
  assert.deepEqual(Object.keys(theirs.cilium_endpoints ?? {}).toSorted(), agents)
  const endpoints = Object.values(theirs.cilium_endpoints ?? {}).flat()
  const pods = await lab.sh(
    `kubectl get pods -A --field-selector spec.hostNetwork=false,status.phase=Running -o jsonpath='{.items[*].metadata.name}'`,
  )
  assert.equal(endpoints.length, pods.split(' ').filter(Boolean).length)
  assert.ok(endpoints.length > 0)
  for (const { status } of endpoints) assert.equal(status.state, 'ready')
  const found = Object.values(theirs.errors).flatMap((of) =>
    Object.values(of).flatMap(({ Errors, Warnings }) => [...(Errors ?? []), ...(Warnings ?? [])]),
  )
  assert.deepEqual([...found, ...(theirs.collection_errors ?? [])], [])
}

/** Letter for letter. */
async function sameConfig(lab: Lab, cli: CiliumCli, ...lines: readonly (readonly [string, string])[]): Promise<void> {
  const text = await cli.say('config', 'view')
  for (const [key, value] of lines) assert.match(text, new RegExp(`^${key} +${value}$`, 'm'))
  assert.equal(await lab.sh('cilium config view'), text)
}

async function sameKey(lab: Lab, cli: CiliumCli): Promise<string> {
  const text = await cli.say('encryption', 'key-status')
  assert.equal(await lab.sh('cilium encryption key-status'), text)
  const { 'ipsec-key': key } = await cli.json<{ 'ipsec-key': string }>('encryption', 'key-status')
  assert.equal(text, `IPsec key: ${key}\n`)
  return key
}

/** Every node encrypts by IPsec with as many keys as it has neighbours to and from, and nothing has gone wrong. */
async function restingIpsec(t: TestContext, lab: Lab, cli: CiliumCli, expected: number): Promise<void> {
  const resting = await eventually('every node has its keys', 60, async () => {
    const report = await cli.json<EncryptionJson>('encryption', 'status')
    return report['ipsec-keys-in-use-node-count']?.[KEYS] === NODES ? report : undefined
  })
  const { 'ipsec-max-seq-num': highest = '', 'xfrm-errors': errors = {}, ...report } = resting
  assert.match(highest, /^0x[0-9a-f]+\/0xf{16}$/)
  assert.deepEqual(errors, {})
  const { 'ipsec-err-count': count = 0, 'xfrm-error-node-count': _, ...rest } = report
  assert.equal(count, 0)
  assert.deepEqual(rest, {
    'total-node-count': NODES,
    'enc-ipsec-node-count': NODES,
    'ipsec-keys-in-use-node-count': { [KEYS]: NODES },
    'ipsec-expected-key-count': expected,
    ...(expected === KEYS ? {} : { 'ipsec-key-rotation-in-progress': true }),
  })
  const text = await cli.say('encryption', 'status')
  t.diagnostic(text.trim().replaceAll('\n', '; '))
  const [own, others] = [await lab.sh('cilium encryption status'), text].map((all) =>
    all.split('\n').filter((line) => !line.includes('Seq. Number')),
  )
  const differ = own?.filter((line, at) => line !== others?.[at]) ?? []
  assert.equal(own?.length, others?.length)
  if (expected === KEYS) assert.deepEqual(differ, [])
  else assert.deepEqual(differ, [`IPsec expected key count: ${KEYS}`, 'IPsec key rotation in progress: false'])
  assert.deepEqual(await nodesOf(lab, cli), await nodeNames(lab))
}

/** The nodes that `--per-node-details` has, each asked by its name as well. */
async function nodesOf(lab: Lab, cli: CiliumCli): Promise<string[]> {
  const details = await cli.say('encryption', 'status', '--per-node-details')
  const nodes = [...details.matchAll(/^Node: (\S+)$/gm)].map(([, node]) => node as string).toSorted()
  const [first = ''] = nodes
  const one = await cli.say('encryption', 'status', '--per-node-details', '--node', first)
  assert.match(one, new RegExp(`^Node: ${first}\nEncryption: `))
  const own = await lab.sh(`cilium encryption status --per-node-details --node ${first}`)
  assert.match(own, new RegExp(`^Node: ${first}\nEncryption: `))
  return nodes
}

async function nodeNames(lab: Lab): Promise<string[]> {
  return (await lab.sh(`kubectl get nodes -o jsonpath='{.items[*].metadata.name}'`)).split(' ').toSorted()
}
