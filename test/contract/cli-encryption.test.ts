import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { OperatorMetrics } from '#apps/operator/metrics.ts'
import { watchCluster } from '#apps/operator/watcher.ts'
import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import { parseConfig } from '#core/api/config.ts'
import {
  encodeSecret,
  FORCED_ANNOTATION,
  formatKeptKeys,
  IPSEC_SECRET,
  KEPT_SECRET,
  parseForced,
  parseKeptKeys,
  secretOf,
  secretText,
} from '#core/api/ipsec-secrets.ts'
import { CONFIG_MAP } from '#core/api/names.ts'
import { NODES } from '#core/api/node.ts'
import { CONFIG_MAPS, SECRETS } from '#core/api/resources.ts'
import { type KeyFingerprint, type KeyRef, sameKey } from '#core/ipsec/key.ts'
import { parseKeyTexts } from '#core/ipsec/key-text.ts'
import { IPSEC_WORDS_ANNOTATION, type IpsecWords, parseIpsecWords } from '#core/ipsec/words.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { apiSuite, until } from '#test/kit/api-suite.ts'
import type { ApiServer } from '#test/kit/apiserver.ts'
import { type CliRun, runPellicle } from '#test/kit/cli.ts'
import { sayKeys } from '#test/kit/played-agent.ts'

/** `encryption create-key|rotate-key|key-status` against a real kube-apiserver and our operator; agents are played. */
const scope = { namespace: 'kube-system' }
const CONFIG = { 'enable-ipsec': 'true', 'pellicle-cluster-cidrs': '10.244.0.0/16' }
const NAMES = ['a', 'b', 'c']
let server: ApiServer
let client: KubeClient
const real = apiSuite((made) => {
  ;({ server, client } = made)
})

const cli = async (...args: string[]): Promise<CliRun> =>
  await runPellicle(args, { env: { PATH: process.env['PATH'], HOME: server.folder, KUBECONFIG: server.kubeconfig } })

async function text(): Promise<string> {
  return secretText((await client.get(SECRETS, IPSEC_SECRET, scope)).data, 'keys') ?? ''
}

real('without a Secret the commands say what to do; create-key makes one, once', async () => {
  const missing = await cli('encryption', 'key-status')
  assert.equal(missing.code, 1)
  assert.match(
    missing.stderr,
    /^Error: Unable to display IPsec key: failed to fetch IPsec secret: .*not found.*create-key/,
  )
  assert.match((await cli('encryption', 'rotate-key')).stderr, /^Error: Unable to rotate IPsec key: failed to fetch/)
  const wrong = await cli('encryption', 'create-key', '--auth-algo', 'gcm-aes')
  assert.equal(wrong.code, 1)
  assert.match(wrong.stderr, /^Error: Input params are invalid: auth-algo has invalid value: gcm-aes/)

  const made = await cli('encryption', 'create-key')
  assert.deepEqual([made.code, made.stdout], [0, 'IPsec key successfully created, new key SPI: 1\n'])
  assert.match(await text(), /^1 rfc4106\(gcm\(aes\)\) [0-9a-f]{40} 128$/)
  const again = await cli('encryption', 'create-key')
  assert.equal(again.code, 1)
  assert.match(again.stderr, /IPsec secret already exists, please rotate key if needed/)
})

real('key-status prints the key as Cilium’s CLI does, and no other command does', async () => {
  const key = await text()
  assert.equal((await cli('encrypt', 'ks')).stdout, `IPsec key: ${key}\n`)
  assert.equal((await cli('encryption', 'key-status', '-o', 'json')).stdout, `{\n "ipsec-key": "${key}"\n}\n`)
  const nobody = await cli('encryption', 'key-status', '--as', 'nobody', '--as-group', 'a', '--as-group', 'b')
  assert.equal(nobody.code, 1)
  assert.match(nobody.stderr, /"nobody" cannot get/)
  const master = await cli('encryption', 'key-status', '--as', 'somebody', '--as-group', 'system:masters')
  assert.equal(master.stdout, `IPsec key: ${key}\n`)
  const hex = key.split(' ')[2] as string
  const rotated = await cli('encryption', 'rotate-key')
  assert.equal(rotated.stdout, 'IPsec key successfully rotated, new key SPI: 2\n')
  assert.match(rotated.stderr, /IPsec is not on in this cluster/)
  const next = (await text()).split(' ')[2] as string
  for (const secret of [hex, next]) assert.ok(!(rotated.stdout + rotated.stderr).includes(secret))
  assert.notEqual(next, hex)
})

real('rotation keeps algorithm, lengths and +, goes from 15 to 1, and changes the algorithm when asked', async () => {
  const put = async (value: string) => {
    await client.delete(SECRETS, IPSEC_SECRET, scope)
    await client.create(SECRETS, secretOf(IPSEC_SECRET, { keys: value }), scope)
  }
  await put(`15+ rfc4106(gcm(aes)) ${crypto.getRandomValues(new Uint8Array(36)).toHex()} 128\n`)
  assert.match((await cli('encryption', 'rotate-key')).stdout, /new key SPI: 1\n/)
  assert.match(await text(), /^1\+ rfc4106\(gcm\(aes\)\) [0-9a-f]{72} 128$/)
  await cli('encryption', 'rotate-key', '--auth-algo', 'cbc-aes-sha512')
  assert.match(await text(), /^2\+ hmac\(sha512\) [0-9a-f]{64} cbc\(aes\) [0-9a-f]{32}$/)
  // as older releases of Cilium's CLI have it
  await cli('encryption', 'rotate-key', '--auth-algo', 'gcm-aes')
  assert.match(await text(), /^3\+ rfc4106\(gcm\(aes\)\) [0-9a-f]{40} 128$/)
  assert.match((await cli('encryption', 'rotate-key', '--auth-algo', 'hmac-md5')).stderr, /invalid value: hmac-md5/)
  await put('3 rfc4106(gcm(aes)) deadbeef 128')
  const refused = await cli('encryption', 'rotate-key')
  assert.match(refused.stderr, /Unable to rotate IPsec key: IPsec key has unsupported format/)
  assert.doesNotMatch(refused.stderr, /deadbeef/)
  await client.delete(SECRETS, IPSEC_SECRET, scope)
  await client.create(SECRETS, { ...secretOf(IPSEC_SECRET, { other: 'x' }) }, scope)
  assert.match((await cli('encryption', 'key-status')).stderr, /IPsec key not found in the secret: cilium-ipsec-keys/)
  await client.delete(SECRETS, IPSEC_SECRET, scope)
})

real('create-key takes no id that the cluster still holds', async () => {
  const hex = () => crypto.getRandomValues(new Uint8Array(20)).toHex()
  const texts = [15, 1].map((id) => `${id} rfc4106(gcm(aes)) ${hex()} 128`)
  const secret = secretOf(KEPT_SECRET, {})
  await client.create(SECRETS, { ...secret, data: formatKeptKeys({ texts, retired: [] }) }, scope)
  const receives = [{ id: 2, fingerprint: '0123456789abcdef' as KeyFingerprint }]
  await sayKeys(client, 'left-behind', { receives, sends: [] })
  const made = await cli('encryption', 'create-key')
  assert.deepEqual([made.code, made.stdout], [0, 'IPsec key successfully created, new key SPI: 3\n'])
  for (const name of [IPSEC_SECRET, KEPT_SECRET]) await client.delete(SECRETS, name, scope)
  await client.delete(CILIUM_NODES, 'left-behind')
})

/** Agents without a datapath: they receive what is kept, send by it when all receive it, let go when all send by it. */
async function playAgents(names: readonly string[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const secret = await client.find(SECRETS, KEPT_SECRET, scope)
    const kept = (parseKeptKeys(secret?.data)?.texts ?? []).flatMap((line): KeyRef[] => {
      const parsed = parseKeyTexts(line, ipsecHash)
      return parsed.ok ? parsed.value.map(({ id, fingerprint }) => ({ id, fingerprint })) : []
    })
    const newest = kept.at(-1)
    const { items } = await client.listAll(CILIUM_NODES)
    const forced = parseForced(secret?.metadata.annotations?.[FORCED_ANNOTATION], newest)
    const said = items
      .filter(({ metadata }) => !forced.includes(metadata.name))
      .map(({ metadata }) => parseIpsecWords(metadata.annotations?.[IPSEC_WORDS_ANNOTATION]))
    const all = (has: (words: IpsecWords) => boolean) => said.length >= names.length && said.every((w) => w && has(w))
    const isReceived = newest !== undefined && all(({ receives }) => receives.some((key) => sameKey(key, newest)))
    const isSent = newest !== undefined && all(({ sends }) => sends.every((key) => sameKey(key, newest)))
    for (const name of names) {
      const sends = newest === undefined ? [] : isReceived ? [newest] : kept.slice(0, 1)
      await sayKeys(client, name, { receives: isReceived && isSent ? [newest] : kept, sends })
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

async function play(t: TestContext, names: readonly string[]): Promise<void> {
  const parsed = parseConfig(CONFIG)
  assert(parsed.ok)
  const stop = new AbortController()
  const { config } = parsed.value
  const metrics = new OperatorMetrics()
  const running = Promise.all([
    watchCluster({ client, namespace: scope.namespace, config, log: SILENT, metrics }, stop.signal),
    playAgents(names, stop.signal),
  ])
  t.after(async () => {
    stop.abort()
    await running
  })
}

real('rotate-key waits until every node uses the new key alone', async (t) => {
  for (const name of NAMES) await client.create(NODES, { metadata: { name } })
  await client.create(CONFIG_MAPS, { metadata: { name: CONFIG_MAP }, data: CONFIG }, scope)
  await play(t, NAMES)
  assert.equal((await cli('encryption', 'create-key')).code, 0)
  await until(async () => (await client.listAll(CILIUM_NODES)).items.length === NAMES.length)
  for (const id of [2, 3]) {
    const { code, stdout, stderr } = await cli('encryption', 'rotate-key')
    assert.deepEqual([code, stdout], [0, `IPsec key successfully rotated, new key SPI: ${id}\n`], stderr)
    assert.match(stderr, new RegExp(`✅ Key ${id} is the only one on 3 nodes\n$`))
    const kept = parseKeptKeys((await client.get(SECRETS, KEPT_SECRET, scope)).data)
    assert.deepEqual(kept?.texts, [await text()])
  }
})

real('a node that is lost is named, and the rotation is ended without it when asked', async (t) => {
  await play(t, ['a', 'b'])
  const waiting = await cli('encryption', 'rotate-key', '--wait-duration', '6s')
  assert.equal(waiting.code, 1)
  assert.equal(waiting.stdout, 'IPsec key successfully rotated, new key SPI: 4\n')
  assert.match(waiting.stderr, /2 of 3 nodes receive key 4, waiting for c \(NotReady\)/)
  assert.match(waiting.stderr, /Error: the rotation to key 4 is not done yet: .*It goes on by itself.*--force NODE/)
  const third = await cli('encryption', 'rotate-key', '--no-wait')
  assert.match(third.stderr, /A rotation to key 4 is under way .*the new key waits/)
  assert.match((await cli('encryption', 'rotate-key', '--force', 'cc')).stderr, /no node cc\. Did you mean c\?/)
  // c is given up for key 4, and for key 5 after it
  const forced = await cli('encryption', 'rotate-key', '--force', 'c', '--wait-duration', '120s')
  assert.deepEqual([forced.code, forced.stdout], [0, ''], forced.stderr)
  assert.match(forced.stderr, /goes on without c/)
  assert.match(forced.stderr, /✅ Key 5 is the only one on 2 nodes/)
  // at the next rotation it counts again
  const next = await cli('encryption', 'rotate-key', '--wait-duration', '3s')
  assert.match(next.stderr, /waiting for .*c \(NotReady\)/)
  // an older text was put back: the next id is held already
  const keeps = async () => parseKeptKeys((await client.get(SECRETS, KEPT_SECRET, scope)).data)
  await until(async () => (await keeps())?.texts.at(-1)?.startsWith('6 ') ?? false)
  const kept = await keeps()
  await client.patch(SECRETS, IPSEC_SECRET, { data: { keys: encodeSecret(kept?.texts[0] ?? '') } }, scope)
  const forward = await cli('encryption', 'rotate-key', '--no-wait')
  assert.equal(forward.stdout, 'IPsec key successfully rotated, new key SPI: 7\n')
})
