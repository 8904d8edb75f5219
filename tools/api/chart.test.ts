import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { CHART_KEYS, REFUSED_KEYS } from '#core/api/config-refused.ts'
import { locateHelm } from '#io/helm/locate.ts'

/** The chart by the real Helm, without a cluster. */

const run = promisify(execFile)
const chart = fileURLToPath(new URL('../../deploy/chart', import.meta.url))
const helm = await locateHelm(process.env).catch(() => undefined)
const options = { skip: helm === undefined ? 'needs Helm 3.14 or newer' : false }
const GIVEN = ['--kube-version', '1.34.0', '--set', 'pellicle.clusterCIDRs={10.244.0.0/16}']

interface Rendered {
  readonly kind: string
  readonly metadata: { readonly name: string }
  readonly [field: string]: unknown
}

async function template(...flags: string[]): Promise<readonly Rendered[]> {
  const { stdout } = await run(helm ?? '', ['template', 'cilium', chart, ...GIVEN, ...flags])
  return parseAllDocuments(stdout).map((document) => document.toJS() as Rendered)
}

function dataOf(objects: readonly Rendered[]): Record<string, string> {
  return objects.find(({ kind }) => kind === 'ConfigMap')?.['data'] as Record<string, string>
}

test('Helm by hand refuses under extraConfig what install refuses', options, async () => {
  for (const [set, expected] of [
    ['enable-wireguard=false', /written by the chart.*set encryption\.enabled/],
    ['enable-policy=always', /NetworkPolicy is not enforced/],
    ['enable-encryption-strict-mode=true', /nothing leaves in clear/],
    ['enable-wireguard =false', /no name of a key/],
  ] as const) {
    const flags = ['--set', 'encryption.enabled=true,encryption.type=wireguard', '--set', `extraConfig.${set}`]
    await assert.rejects(template(...flags), { message: expected }, set)
  }
  const off = await template('--set', 'extraConfig.enable-policy=never,extraConfig.some-key=5')
  assert.deepEqual([dataOf(off)['enable-policy'], dataOf(off)['some-key']], ['never', '5'])
})

test('Helm by hand refuses what is not built', options, async () => {
  await assert.rejects(template('--set', 'pellicle.datapath=kernel'), { message: /kernel datapath is not built/ })
  await assert.rejects(template('--set', 'cni.chainingMode=aws-cni'), { message: /chainingMode/ })
  await template('--set', 'cni.chainingMode=none,pellicle.datapath=userspace')
})

test('metrics are for the node alone until prometheus.enabled opens them', options, async () => {
  const argsOf = async (...flags: string[]) => {
    const agent = (await template(...flags)).find(
      ({ kind, metadata }) => kind === 'DaemonSet' && metadata.name === 'cilium',
    )
    const { containers } = (agent as unknown as { spec: { template: { spec: { containers: { args: string[] }[] } } } })
      .spec.template.spec
    return containers[0]?.args.filter((arg) => arg.startsWith('--metrics'))
  }
  assert.deepEqual(await argsOf(), ['--metrics-address=127.0.0.1', '--metrics-port=9962'])
  const open = await argsOf('--set', 'prometheus.enabled=true,prometheus.port=9090')
  assert.deepEqual(open, ['--metrics-address=', '--metrics-port=9090'])
})

test('an agent may read Nodes, and apply its CiliumNode: nothing else', options, async () => {
  const role = (await template()).find(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name === 'cilium')
  const rules = role?.['rules'] as { resources: string[]; verbs: string[] }[]
  assert.deepEqual(
    rules.map(({ resources, verbs }) => `${resources.join()}: ${verbs.join()}`),
    ['nodes: get,list,watch', 'ciliumnodes: get,list,watch,create,patch'],
  )
})

test('every key that the chart writes is known as one', options, async () => {
  const objects = await template(
    '--set',
    'encryption.enabled=true,encryption.type=wireguard,encryption.nodeEncryption=true,MTU=1500,pellicle.profile=1.14.5',
  )
  assert.deepEqual(Object.keys(dataOf(objects)).sort(), Object.keys(CHART_KEYS).sort())
  assert.deepEqual(
    Object.keys(REFUSED_KEYS).filter((key) => Object.hasOwn(CHART_KEYS, key)),
    [],
  )
})
