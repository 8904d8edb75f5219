import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { parseConfig } from '#core/api/config.ts'
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
  await assert.rejects(template('--set', 'cni.chainingMode=aws-cni'), { message: /chainingMode/ })
  await assert.rejects(template('--set', 'routingMode=native'), {
    message: /ipv4NativeRoutingCIDR must be set when routingMode is native/,
  })
  await template('--set', 'cni.chainingMode=none,pellicle.datapath=kernel')
})

test('what is asked for IPsec stands in the ConfigMap by the names of Cilium', options, async () => {
  const ipsecOf = async (...flags: string[]) => {
    const data = dataOf(await template('--set', 'encryption.enabled=true', ...flags))
    return Object.fromEntries(Object.entries(data).filter(([key]) => /ipsec|wireguard|encrypt/.test(key)))
  }
  const standard = {
    'enable-ipsec': 'true',
    'enable-ipsec-encrypted-overlay': 'false',
    'enable-ipsec-key-watcher': 'true',
    'ipsec-key-file': '/etc/ipsec/keys',
    'enable-wireguard': 'false',
    'encrypt-node': 'false',
    'ipsec-key-rotation-duration': '5m',
    'pellicle-ipsec-secret': 'cilium-ipsec-keys/keys',
    'pellicle-ipsec-udp-encapsulation': 'auto',
  }
  assert.deepEqual(await ipsecOf('--set', 'encryption.type=ipsec'), standard)
  assert.deepEqual(await ipsecOf(), standard, "it is Cilium's default type")
  const parts = 'secretName=mine,keyFile=text,mountPath=/run/k/,keyWatcher=false,interface=eth1,udpEncapsulation=true'
  const set = parts
    .split(',')
    .map((part) => `encryption.ipsec.${part}`)
    .join()
  const other = await ipsecOf('--set', set)
  assert.deepEqual(other, {
    ...standard,
    'enable-ipsec-key-watcher': 'false',
    'encrypt-interface': 'eth1',
    'ipsec-key-file': '/run/k/text',
    'pellicle-ipsec-secret': 'mine/text',
    'pellicle-ipsec-udp-encapsulation': 'true',
  })
  for (const data of [standard, other]) {
    const parsed = parseConfig({ ...data, 'pellicle-cluster-cidrs': '10.244.0.0/16' })
    assert.ok(parsed.ok && parsed.value.unknown.length === 0 && parsed.value.config.encryption === 'ipsec')
  }
  await assert.rejects(template('--set', 'encryption.enabled=true,encryption.type=ztunnel'), { message: /ztunnel/ })
})

test('what is off is said to be off: kubectl apply takes no key away that Helm has written', options, async () => {
  const KEYS = ['enable-ipsec', 'enable-wireguard', 'encrypt-node']
  for (const [set, expected] of [
    ['encryption.enabled=false,encryption.nodeEncryption=true', ['false', 'false', 'false']],
    ['encryption.enabled=true,encryption.type=wireguard,encryption.nodeEncryption=true', ['false', 'true', 'true']],
    ['encryption.enabled=true,encryption.type=ipsec', ['true', 'false', 'false']],
  ] as const) {
    const data = dataOf(await template('--set', set))
    assert.deepEqual(
      KEYS.map((key) => data[key]),
      expected,
    )
  }
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

test(
  'cluster-pool: the pool stands in the ConfigMap by the names of Cilium, and what cannot be is refused',
  options,
  async () => {
    const pooled = async (...values: string[]) => {
      const set = ['mode=cluster-pool', ...values].flatMap((value) => ['--set', `ipam.${value}`])
      const { stdout } = await run(helm ?? '', ['template', 'cilium', chart, '--kube-version', '1.34.0', ...set])
      return dataOf(parseAllDocuments(stdout).map((document) => document.toJS() as Rendered))
    }
    const data = await pooled('operator.clusterPoolIPv4PodCIDRList={10.0.0.0/16,10.9.0.0/16}')
    assert.deepEqual(
      Object.entries(data).filter(([key]) => key.includes('pool')),
      [
        ['cluster-pool-ipv4-cidr', '10.0.0.0/16 10.9.0.0/16'],
        ['cluster-pool-ipv4-mask-size', '24'],
        ['cluster-pool-ipv6-mask-size', '120'],
      ],
    )
    const parsed = parseConfig(data)
    assert.ok(parsed.ok && parsed.value.unknown.length === 0)
    assert.deepEqual(parsed.value.config.clusterCidrs, ['10.0.0.0/16', '10.9.0.0/16'])
    const text = await pooled('operator.clusterPoolIPv4PodCIDRList=10.0.0.0/16 10.9.0.0/16')
    assert.equal(text['cluster-pool-ipv4-cidr'], '10.0.0.0/16 10.9.0.0/16', 'a text as Cilium takes it')
    for (const [values, expected] of [
      [[], /clusterPoolIPv4PodCIDRList is empty/],
      [['operator.clusterPoolIPv4PodCIDRList={10.0.0.0/28}'], /10\.0\.0\.0\/28 is smaller than one node's \/24/],
      [['operator.clusterPoolIPv4PodCIDRList={10.0.0.0/8}', 'operator.clusterPoolIPv4MaskSize=31'], /31|30/],
      [['operator.clusterPoolIPv4PodCIDR=10.0.0.0/8'], /clusterPoolIPv4PodCIDR/],
    ] as const) {
      await assert.rejects(pooled(...values), { message: expected })
    }
  },
)

test('every key that the chart writes is known as one', options, async () => {
  const common = 'encryption.enabled=true,encryption.nodeEncryption=true,MTU=1500,pellicle.profile=1.14.5'
  const wireguard = await template('--set', `${common},encryption.type=wireguard`)
  const ipsec = await template('--set', `${common},encryption.type=ipsec,encryption.ipsec.interface=eth0`)
  const native = await template(
    '--set',
    'routingMode=native,ipv4NativeRoutingCIDR=10.0.0.0/8,ipv6NativeRoutingCIDR=fd00::/8,autoDirectNodeRoutes=true',
  )
  const operator = 'clusterPoolIPv4PodCIDRList={10.0.0.0/8},ipam.operator.clusterPoolIPv6PodCIDRList={fd00::/104}'
  const pooled = await template('--set', `ipam.mode=cluster-pool,ipam.operator.${operator}`)
  const written = new Set([wireguard, ipsec, native, pooled].flatMap((objects) => Object.keys(dataOf(objects))))
  assert.deepEqual([...written].sort(), Object.keys(CHART_KEYS).sort())
  assert.deepEqual(
    Object.keys(REFUSED_KEYS).filter((key) => Object.hasOwn(CHART_KEYS, key)),
    [],
  )
})
