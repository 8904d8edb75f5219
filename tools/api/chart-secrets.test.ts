import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { locateHelm } from '#io/helm/locate.ts'

/** Who may touch which Secret, by the real Helm, without a cluster. */

const run = promisify(execFile)
const chart = fileURLToPath(new URL('../../deploy/chart', import.meta.url))
const helm = await locateHelm(process.env).catch(() => undefined)
const options = { skip: helm === undefined ? 'needs Helm 3.14 or newer' : false }
const IPSEC = ['--set', 'encryption.enabled=true,encryption.type=ipsec']

interface Rendered {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly [field: string]: unknown
}

interface PodSpec {
  readonly containers: readonly { readonly volumeMounts: readonly Named[] }[]
  readonly volumes: readonly (Named & { readonly secret?: object })[]
}

interface Named {
  readonly name: string
  readonly mountPath?: string
  readonly readOnly?: boolean
}

async function template(...flags: readonly string[]): Promise<readonly Rendered[]> {
  const given = ['--kube-version', '1.34.0', '-n', 'net', '--set', 'pellicle.clusterCIDRs={10.244.0.0/16}']
  const { stdout } = await run(helm ?? '', ['template', 'cilium', chart, ...given, ...flags])
  return parseAllDocuments(stdout).map((document) => document.toJS() as Rendered)
}

/** `NAMES: VERBS` of each rule about Secrets, in every Role and ClusterRole. */
function secretRules(objects: readonly Rendered[], name: string): string[] {
  return objects
    .filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && metadata.name === name)
    .flatMap(({ kind, metadata, ...rest }) => {
      const rules = rest['rules'] as { resources: string[]; resourceNames?: string[]; verbs: string[] }[]
      return rules
        .filter(({ resources }) => resources.includes('secrets') || resources.includes('*'))
        .map(
          (rule) => `${kind} ${metadata.namespace ?? ''} ${rule.resourceNames?.join() ?? 'all'}: ${rule.verbs.join()}`,
        )
    })
}

function agentPod(objects: readonly Rendered[]): PodSpec {
  const set = objects.find(({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === 'cilium')
  return (set as unknown as { spec: { template: { spec: PodSpec } } }).spec.template.spec
}

test('agents and operator may touch two Secrets of their own namespace, and no other', options, async () => {
  const objects = await template()
  assert.deepEqual(secretRules(objects, 'cilium'), ['Role net cilium-ipsec-keys,pellicle-ipsec-keys: get,list,watch'])
  assert.deepEqual(secretRules(objects, 'cilium-operator'), [
    'Role net cilium-ipsec-keys: get,list,watch',
    // the admission policy says which
    'Role net all: create',
    'Role net pellicle-ipsec-keys: get,list,watch,update',
  ])
  const policy = objects.find(({ metadata }) => metadata.name === 'pellicle-operator-secret')
  assert.match(JSON.stringify(policy?.['spec']), /serviceaccount:net:cilium-operator/)
})

test('the key is mounted where Cilium has it, and an agent starts without it', options, async () => {
  const { containers, volumes } = agentPod(await template(...IPSEC))
  const named = ({ name }: Named) => name === 'cilium-ipsec-secrets'
  assert.deepEqual(containers[0]?.volumeMounts.find(named), {
    name: 'cilium-ipsec-secrets',
    mountPath: '/etc/ipsec',
    readOnly: true,
  })
  assert.deepEqual(volumes.find(named)?.secret, { secretName: 'cilium-ipsec-keys', optional: true, defaultMode: 0o400 })
})

test('another name and another place', options, async () => {
  const set = 'encryption.ipsec.secretName=mine,encryption.ipsec.mountPath=/etc/keys'
  const objects = await template(...IPSEC, '--set', set)
  assert.match(secretRules(objects, 'cilium').join(), /mine,pellicle-ipsec-keys/)
  assert.match(secretRules(objects, 'cilium-operator').join(), /mine: get/)
  assert.match(JSON.stringify(agentPod(objects)), /"mountPath":"\/etc\/keys".*"secretName":"mine"/)
})

test('without IPsec no agent has keys in its files', options, async () => {
  for (const set of ['encryption.enabled=false', 'encryption.enabled=true,encryption.type=wireguard']) {
    assert.doesNotMatch(JSON.stringify(agentPod(await template('--set', set))), /ipsec/)
  }
})
