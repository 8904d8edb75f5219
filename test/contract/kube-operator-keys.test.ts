import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { OperatorMetrics } from '#apps/operator/metrics.ts'
import { watchCluster } from '#apps/operator/watcher.ts'
import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { parseConfig } from '#core/api/config.ts'
import {
  encodeSecret,
  FORCED_ANNOTATION,
  formatForced,
  IPSEC_SECRET,
  KEPT_SECRET,
  parseKeptKeys,
  secretOf,
} from '#core/api/ipsec-secrets.ts'
import { NODES } from '#core/api/node.ts'
import { EVENTS, SECRETS } from '#core/api/resources.ts'
import type { KeyRef } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { IPSEC_WORDS_ANNOTATION } from '#core/ipsec/words.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import { createLog } from '#io/telemetry/log.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'
import { applyManifests } from '#test/kit/chart-manifests.ts'
import { sayKeys } from '#test/kit/played-agent.ts'

/** The operator and the two Secrets of IPsec keys, with the rights of the chart, against a real kube-apiserver. */
const NAMESPACE = 'kube-system'
const scope = { namespace: NAMESPACE }
const HEX = {
  3: '8f3a91c2d47e05b6617f2ec9a0d35b84e91c7a26',
  4: '5d20e7b94c1fa863920be4d71f6c358ad4097be1',
  5: 'c07b36e1582fd94a0e6bb7935dac41f2783e1509',
} as const
const text = (id: 3 | 4 | 5) => `${id} rfc4106(gcm(aes)) ${HEX[id]} 128`

let server: ApiServer
let client: KubeClient
const real = apiSuite((made) => {
  ;({ server, client } = made)
})

async function serviceAccount(name: string): Promise<KubeClient> {
  return await server.as(`system:serviceaccount:${NAMESPACE}:${name}`, [
    'system:serviceaccounts',
    `system:serviceaccounts:${NAMESPACE}`,
    'system:authenticated',
  ])
}

const forbidden = (error: unknown) => hasCode(error, 'kube.forbidden')

real('operator and agents may touch the two Secrets as they need to, and no other', async () => {
  for (const path of ['cilium-operator/rbac.yaml', 'cilium-operator/admission.yaml', 'cilium-agent/role.yaml']) {
    await applyManifests(client, NAMESPACE, path)
  }
  const [operator, agent] = [await serviceAccount('cilium-operator'), await serviceAccount('cilium')]
  await client.create(SECRETS, secretOf('other', { a: 'b' }), scope)
  await client.create(SECRETS, secretOf(IPSEC_SECRET, { keys: text(3) }), scope)
  // the policy takes effect a moment after it was made
  await until(async () => {
    try {
      await operator.create(SECRETS, secretOf(`bootstrap-token-${crypto.randomUUID().slice(0, 6)}`, {}), scope)
      return false
    } catch (error) {
      return String(error).includes('the operator may create only the Secret pellicle-ipsec-keys')
    }
  })
  const token = { ...secretOf(KEPT_SECRET, {}), type: 'bootstrap.kubernetes.io/token' }
  await assert.rejects(operator.create(SECRETS, token, scope))
  for (const who of [operator, agent]) {
    for (const name of [IPSEC_SECRET, KEPT_SECRET]) {
      await who.list(SECRETS, { ...scope, fieldSelector: `metadata.name=${name}` })
    }
    await assert.rejects(who.list(SECRETS, scope), forbidden)
    await assert.rejects(who.get(SECRETS, 'other', scope), forbidden)
    await assert.rejects(who.patch(SECRETS, IPSEC_SECRET, { data: { keys: '' } }, scope), forbidden)
    await assert.rejects(who.delete(SECRETS, IPSEC_SECRET, scope), forbidden)
    await assert.rejects(who.get(SECRETS, IPSEC_SECRET, { namespace: 'default' }), forbidden)
  }
  await assert.rejects(agent.create(SECRETS, secretOf(KEPT_SECRET, {}), scope), forbidden)
  await client.delete(SECRETS, IPSEC_SECRET, scope)
})

function refOf(id: 3 | 4 | 5): KeyRef {
  const parsed = parseKeyTexts(text(id), ipsecHash)
  assert(parsed.ok)
  const key = parsed.value[0] as KeyRef
  return { id: key.id, fingerprint: key.fingerprint }
}

/** What the agent of `name` says; an agent is played, everything else is real. */
async function say(name: string, receives: readonly (3 | 4 | 5)[], sends: readonly (3 | 4 | 5)[]): Promise<void> {
  await sayKeys(client, name, { receives: receives.map(refOf), sends: sends.map(refOf) })
}

async function kept() {
  return parseKeptKeys((await client.find(SECRETS, KEPT_SECRET, scope))?.data)
}

async function keeps(...ids: readonly (3 | 4 | 5)[]): Promise<void> {
  await keepsTexts(ids.map(text))
}

async function keepsTexts(texts: readonly string[]): Promise<void> {
  const wanted = JSON.stringify(texts)
  await until(async () => JSON.stringify((await kept())?.texts) === wanted)
}

async function userText(value: string): Promise<void> {
  await client.patch(SECRETS, IPSEC_SECRET, { data: { keys: encodeSecret(value) } }, scope)
}

async function eventReasons(): Promise<string[]> {
  const { items } = await client.listAll(EVENTS, scope)
  return items.filter(({ regarding }) => regarding.kind === 'Secret').map(({ reason }) => reason)
}

interface Operator {
  /** All that it logged. */
  readonly log: () => string
  readonly stop: () => Promise<void>
}

/** As its pod is started again when the configuration changes. */
async function runOperator(on: 'ipsec' | 'wireguard' | 'none', metrics = new OperatorMetrics()): Promise<Operator> {
  const parsed = parseConfig({
    'pellicle-cluster-cidrs': '10.244.0.0/16',
    'enable-ipsec': String(on === 'ipsec'),
    'enable-wireguard': String(on === 'wireguard'),
  })
  assert(parsed.ok)
  let said = ''
  const log = createLog({ level: 'debug', write: (line) => (said += line) })
  const stop = new AbortController()
  const { config } = parsed.value
  const operator = await serviceAccount('cilium-operator')
  const running = watchCluster({ client: operator, namespace: NAMESPACE, config, log, metrics }, stop.signal)
  return {
    log: () => said,
    stop: async () => {
      stop.abort()
      await running
    },
  }
}

/** The operator's work by its own rights; the answer is all that it logged. */
async function startOperator(t: TestContext, metrics?: OperatorMetrics): Promise<() => string> {
  const { log, stop } = await runOperator('ipsec', metrics)
  t.after(stop)
  return log
}

real('a rotation from the first key to the end, with a node that is lost and one that is deleted', async (t) => {
  for (const name of ['a', 'b', 'lost', 'deleted']) await client.create(NODES, { metadata: { name } })
  const metrics = new OperatorMetrics()
  const log = await startOperator(t, metrics)
  await until(async () => (await eventReasons()).includes('NoKey'))
  await client.create(SECRETS, secretOf(IPSEC_SECRET, { keys: text(3) }), scope)
  await keeps(3)
  for (const name of ['a', 'b', 'lost', 'deleted']) await say(name, [3], [3])

  await userText(text(4))
  await keeps(3, 4)
  for (const name of ['a', 'b']) await say(name, [3, 4], [3])
  await client.delete(NODES, 'deleted')
  // a third key waits
  await userText(text(5))
  await until(async () => (await eventReasons()).includes('KeyWaits'))
  for (const name of ['a', 'b']) await say(name, [4], [4])
  await until(async () => (await metrics.registry.metrics()).includes('rotation_waiting_nodes 1\n'))
  assert.deepEqual((await kept())?.texts, [text(3), text(4)])

  // the operator may be writing at the same time: neither write is lost
  const annotations = { [FORCED_ANNOTATION]: formatForced(refOf(4), ['lost']), 'example.org/mine': 'stays' }
  await client.patch(SECRETS, KEPT_SECRET, { metadata: { annotations } }, scope)
  await keeps(4, 5)
  const secret = await client.get(SECRETS, KEPT_SECRET, scope)
  assert.deepEqual(
    [secret.metadata.annotations?.[FORCED_ANNOTATION], secret.metadata.annotations?.['example.org/mine']],
    [undefined, 'stays'],
  )
  assert.deepEqual((await kept())?.retired, [refOf(3)])
  for (const name of ['a', 'b', 'lost']) await say(name, [5], [5])
  await keeps(5)
  await until(async () => (await eventReasons()).filter((reason) => reason === 'KeyRetired').length === 2)
  const reasons = new Set(await eventReasons())
  for (const reason of ['KeyTaken', 'RotationBegan', 'KeyWaits', 'KeyRetired']) assert.ok(reasons.has(reason), reason)
  assert.match(log(), /rotation from key 3 to key 4 began/)
  const told = log() + JSON.stringify(await client.listAll(EVENTS, scope)) + (await metrics.registry.metrics())
  for (const hex of Object.values(HEX)) assert.ok(!told.includes(hex.slice(0, 8)), 'a key was told')
})

real('a wrong text changes nothing and is told by its reason, until it is right', async (t) => {
  const metrics = new OperatorMetrics()
  const log = await startOperator(t, metrics)
  await keeps(5)
  for (const [wrong, reason] of [
    ['6 rfc4106(gcm(aes)) deadbeef 128', 'MalformedKey'],
    [`6 rfc4106(gcm(aes)) ${'ab'.repeat(20)} 128`, 'WeakKey'],
    [`5 rfc4106(gcm(aes)) ${HEX[5].split('').toReversed().join('')} 128`, 'SameKeyId'],
    [`6 rfc4106(gcm(aes)) ${HEX[3]} 128`, 'KeyUsedBefore'],
    [`6 rfc4106(gcm(aes)) ${HEX[5]} 128`, 'SameKey'],
  ] as const) {
    await userText(wrong)
    await until(async () => (await eventReasons()).includes(reason))
    await until(async () => (await metrics.registry.metrics()).includes(`key_problems{reason="${reason}"} 1`))
    assert.deepEqual((await kept())?.texts, [text(5)])
  }
  await client.patch(SECRETS, IPSEC_SECRET, { data: { keys: '/w==' } }, scope)
  await until(() => log().includes('is no text'))
  await userText(text(5))
  await until(() => log().includes('msg=resolved'))
  assert.doesNotMatch(log(), /deadbeef|abababab/)
})

real('what somebody deletes or spoils is written again; the user’s Secret may go', async (t) => {
  const metrics = new OperatorMetrics()
  await startOperator(t, metrics)
  // let it see what is there before it goes
  await until(async () => /_keys 1\n/.test(await metrics.registry.metrics()))
  await keeps(5)
  await client.delete(SECRETS, IPSEC_SECRET, scope)
  await until(async () => {
    await client.delete(SECRETS, KEPT_SECRET, scope)
    await new Promise((resolve) => setTimeout(resolve, 300))
    return (await kept()) !== undefined
  })
  assert.deepEqual((await kept())?.texts, [text(5)])
  for (const spoilt of [null, '', encodeSecret(text(5).slice(0, -10))]) {
    await client.patch(SECRETS, KEPT_SECRET, { data: { keys: spoilt } }, scope)
    await keeps(5)
  }
  assert.deepEqual(
    (await kept())?.retired.map(({ id }) => id),
    [3, 4],
  )
})

real('a key that was taken away while IPsec was off is not what it begins by again', async (t) => {
  let operator: Operator | undefined
  t.after(() => operator?.stop())
  const restart = async (on: 'ipsec' | 'wireguard' | 'none') => {
    await operator?.stop()
    const metrics = new OperatorMetrics()
    operator = await runOperator(on, metrics)
    return metrics
  }
  const names = ['a', 'b', 'lost']
  const silent = async (name: string) => {
    await client.patch(CILIUM_NODES, name, { metadata: { annotations: { [IPSEC_WORDS_ANNOTATION]: null } } })
  }
  await restart('ipsec')
  if ((await client.find(SECRETS, IPSEC_SECRET, scope)) === undefined) {
    await client.create(SECRETS, secretOf(IPSEC_SECRET, { keys: text(5) }), scope)
  }
  await keeps(5)
  const another = `5 rfc4106(gcm(aes)) ${HEX[5].split('').toReversed().join('')} 128`
  for (const name of names) await say(name, [5], [5])
  const { metadata } = await client.get(SECRETS, KEPT_SECRET, scope)
  for (const off of ['none', 'wireguard'] as const) {
    // off is not over, or nobody can tell: another text in the Secret changes nothing
    for (const name of ['a', 'b']) await silent(name)
    await userText(another)
    for (const words of [undefined, 'of tomorrow']) {
      const annotations = words === undefined ? undefined : { [IPSEC_WORDS_ANNOTATION]: words }
      if (annotations !== undefined) await client.patch(CILIUM_NODES, 'lost', { metadata: { annotations } })
      const metrics = await restart(off)
      await until(async () => /_keys 1\n/.test(await metrics.registry.metrics()))
    }
    // it is over, and the user has the same key: on again is to go on by it
    await userText(text(5))
    await silent('lost')
    const metrics = await restart(off)
    await until(async () => /_keys 1\n/.test(await metrics.registry.metrics()))
    assert.equal((await client.get(SECRETS, KEPT_SECRET, scope)).metadata.resourceVersion, metadata.resourceVersion)
    for (const name of names) await say(name, [5], [5])
  }
  for (const name of names) await silent(name)
  await client.delete(SECRETS, IPSEC_SECRET, scope)
  await keepsTexts([])
  const told = operator?.log() ?? ''
  assert.match(told, /key 5 is forgotten: IPsec is off/)
  assert.doesNotMatch(told, /NoKey|there is no Secret/)
  await client.create(SECRETS, secretOf(IPSEC_SECRET, { keys: another }), scope)
  await restart('ipsec')
  await keepsTexts([another])
  assert.deepEqual(
    (await kept())?.retired.map(({ id }) => id),
    [3, 4],
  )
})
