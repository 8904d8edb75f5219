import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CONFIG_KEYS, type ConfigKey, defaultText, parseConfig } from './config.ts'
import { parseDuration } from './duration.ts'
import { nearest } from './nearest.ts'
import { formatSelector, parseSelector, selects } from './selector.ts'

const LEAST = { 'pellicle-cluster-cidrs': '10.244.0.0/16' }

function faultsOf(data: Record<string, string>): string[] {
  const parsed = parseConfig({ ...LEAST, ...data })
  return parsed.ok ? [] : parsed.error.map((fault) => `${fault.field}: ${fault.message} | ${fault.remedy}`)
}

test('the least that is needed gives the defaults', () => {
  const parsed = parseConfig(LEAST)
  assert(parsed.ok)
  const { config } = parsed.value
  assert.equal(config.encryption, 'none')
  assert.deepEqual(config.clusterCidrs, ['10.244.0.0/16'])
  assert.deepEqual(config.mark.encrypt, { bits: 0xe00, mask: 0xf00 })
  assert.equal(config.ipam, 'kubernetes')
  assert.equal(config.optOut[0]?.key, 'node-role.kubernetes.io/control-plane')
})

test('what the chart writes for WireGuard is read', () => {
  const parsed = parseConfig({
    'pellicle-cluster-cidrs': '10.244.0.0/16,fd00:10:244::/56',
    'enable-wireguard': 'true',
    'encrypt-node': 'true',
    'enable-ipv6': 'true',
    'wireguard-persistent-keepalive': '25s',
    'node-encryption-opt-out-labels': '',
    'log-opt': '{"format":"json"}',
    'pellicle-profile': '1.14.5',
    mtu: '',
  })
  assert(parsed.ok)
  const { config } = parsed.value
  assert.equal(config.encryption, 'wireguard')
  assert.equal(config.nodeEncryption, true)
  assert.equal(config.persistentKeepalive, 25)
  assert.deepEqual(config.optOut, [])
  assert.equal(config.logFormat, 'json')
  assert.equal(config.profile, '1.14.5')
  assert.equal(config.mtu, 0)
})

test('what the chart writes for IPsec is read, and release and UDP choose the shape', () => {
  const data = {
    ...LEAST,
    'enable-ipsec': 'true',
    'ipsec-key-file': '/etc/ipsec/keys',
    'enable-ipsec-key-watcher': 'true',
    'ipsec-key-rotation-duration': '5m',
    'enable-ipsec-encrypted-overlay': 'false',
    'encrypt-interface': 'eth0',
    'pellicle-ipsec-secret': 'cilium-ipsec-keys/keys',
    'pellicle-ipsec-udp-encapsulation': 'auto',
  }
  const parsed = parseConfig(data)
  assert(parsed.ok)
  assert.deepEqual(parsed.value.unknown, [])
  assert.equal(parsed.value.config.encryption, 'ipsec')
  assert.deepEqual(parsed.value.config.ipsec, {
    keyFile: '/etc/ipsec/keys',
    secret: { name: 'cilium-ipsec-keys', field: 'keys' },
    keyWatcher: true,
    interface: 'eth0',
    udpEncapsulation: 'auto',
    shape: 'udp',
  })
  const old = parseConfig({ ...data, 'pellicle-profile': '1.17.0' })
  assert.equal(old.ok && old.value.config.ipsec.shape, 'esp-in-vxlan')
  const native = parseConfig({ ...data, 'pellicle-ipsec-udp-encapsulation': 'false' })
  assert.equal(native.ok && native.value.config.ipsec.shape, 'esp')
  const faults = faultsOf({ ...data, 'enable-wireguard': 'true' })
  assert.deepEqual(faults.length, 1)
  assert.match(faults[0] ?? '', /WireGuard \(--enable-wireguard\) cannot be used with IPsec \(--enable-ipsec\)/)
})

test('native routing has prefixes, and leaves IPsec without VXLAN', () => {
  const data = {
    ...LEAST,
    'routing-mode': 'native',
    'ipv4-native-routing-cidr': '10.244.0.0/16',
    'auto-direct-node-routes': 'true',
    'pellicle-profile': '1.17.0',
  }
  const parsed = parseConfig(data)
  assert(parsed.ok)
  assert.deepEqual(parsed.value.config.native, { cidrs: ['10.244.0.0/16'], directNodeRoutes: true })
  assert.equal(parsed.value.config.ipsec.shape, 'esp')
  const asTheyAre = parseConfig({ ...LEAST, 'routing-mode': 'native', 'enable-ipv4-masquerade': 'false' })
  assert.deepEqual(asTheyAre.ok && asTheyAre.value.config.native, { cidrs: [], directNodeRoutes: false })
  const tunnel = parseConfig(LEAST)
  assert.equal(tunnel.ok && tunnel.value.config.native, undefined)
})

test('without cluster prefixes nothing starts, and the fault says why', () => {
  const parsed = parseConfig({})
  assert(!parsed.ok)
  assert.match(parsed.error[0]?.message ?? '', /pellicle-cluster-cidrs.*default route/)
})

for (const [name, value, expected] of [
  ['enable-wireguard', 'yes', /not "true" or "false"/],
  ['enable-ipsec', 'yes', /not "true" or "false"/],
  ['ipsec-key-file', 'keys', /absolute path/],
  ['ipsec-key-rotation-duration', '5', /duration/],
  ['encrypt-interface', 'a-name-that-is-too-long', /network device/],
  ['pellicle-ipsec-udp-encapsulation', 'maybe', /"auto" or "true" or "false"/],
  ['pellicle-ipsec-secret', 'cilium-ipsec-keys', /one of its fields/],
  ['enable-encryption-strict-mode-egress', 'true', /strict mode/],
  ['cni-chaining-mode', 'aws-cni', /not built/],
  ['enable-host-firewall', 'true', /no host firewall/],
  ['enable-policy', 'always', /NetworkPolicy is not enforced/],
  ['routing-mode', 'native', /must be set when routing-mode is native/],
  ['ipv4-native-routing-cidr', 'fd00::/64', /not all of it is IPv4/],
  ['tunnel-protocol', 'geneve', /Geneve/],
  ['tunnel-port', '0', /whole number/],
  ['mtu', '700', /too little/],
  ['mtu', '-1', /whole number/],
  ['wireguard-persistent-keepalive', '25', /duration/],
  ['wireguard-persistent-keepalive', '500ms', /whole seconds/],
  ['ipam', 'eni', /"kubernetes" or "cluster-pool"/],
  ['pellicle-mark-encrypt', '0x4000/0x4000', /0xc000/],
  ['pellicle-mark-encrypt', '0xe00/0xd00', /within the mask/],
  ['pellicle-cluster-cidrs', '10.244.0.0', /prefixes/],
  ['node-encryption-opt-out-labels', 'a==b==c', /label selector/],
] as const) {
  test(`${name}=${value} is refused by field, with a remedy`, () => {
    const faults = faultsOf({ [name]: value })
    assert.equal(faults.length, 1, faults.join('\n'))
    assert.match(faults[0] ?? '', expected)
    assert.ok(faults[0]?.startsWith(`${name === 'routing-mode' ? 'ipv4-native-routing-cidr' : name}:`))
    assert.ok(!faults[0]?.endsWith('| undefined'))
  })
}

test('all faults come at once, and an unknown key names its neighbour', () => {
  assert.equal(faultsOf({ mtu: 'x', debug: 'x', 'routing-mode': 'x' }).length, 3)
  const parsed = parseConfig({ ...LEAST, 'enable-wiregaurd': 'true' })
  assert(parsed.ok)
  assert.deepEqual(parsed.value.unknown, [{ key: 'enable-wiregaurd', nearest: 'enable-wireguard' }])
})

test('cluster-pool needs a pool that fits, and each error names the prefix', () => {
  const pooled = (data: Record<string, string>) => faultsOf({ ipam: 'cluster-pool', ...data }).join('\n')
  assert.match(pooled({}), /cluster-pool-ipv4-cidr: .*enable-ipv4 is true, but there is no pool/)
  assert.match(pooled({ 'cluster-pool-ipv4-cidr': '10.0.0.0/28' }), /10\.0\.0\.0\/28 is smaller than one node's \/24/)
  assert.match(
    pooled({ 'cluster-pool-ipv4-cidr': '10.0.0.0/8 10.1.0.0/16' }),
    /10\.1\.0\.0\/16 overlaps 10\.0\.0\.0\/8/,
  )
  assert.match(pooled({ 'cluster-pool-ipv4-cidr': 'fd00::/104' }), /fd00::\/104 is not IPv4/)
  assert.match(
    pooled({ 'cluster-pool-ipv4-cidr': '10.0.0.0/8', 'cluster-pool-ipv4-mask-size': '31' }),
    /"31" is not a whole number from 1 to 30/,
  )
  assert.match(
    pooled({ 'cluster-pool-ipv4-cidr': '10.0.0.0/8', 'enable-ipv6': 'true' }),
    /cluster-pool-ipv6-cidr: .*enable-ipv6 is true, but there is no pool/,
  )
})

test('the pools are cluster CIDRs, beside what is given', () => {
  const cidrsOf = (data: Record<string, string>) => {
    const parsed = parseConfig({ ipam: 'cluster-pool', 'cluster-pool-ipv4-cidr': '10.0.0.0/16 10.9.0.0/16', ...data })
    assert(parsed.ok)
    return parsed.value.config.clusterCidrs
  }
  assert.deepEqual(cidrsOf({}), ['10.0.0.0/16', '10.9.0.0/16'])
  assert.deepEqual(cidrsOf({ 'cluster-pool-ipv6-cidr': 'fd00::/104' }), ['10.0.0.0/16', '10.9.0.0/16'], 'IPv6 is off')
  assert.deepEqual(cidrsOf({ 'pellicle-cluster-cidrs': '10.0.0.0/12,172.30.0.0/16' }), ['10.0.0.0/12', '172.30.0.0/16'])
})

test('the text of every default reads back as that default', () => {
  for (const name of Object.keys(CONFIG_KEYS) as ConfigKey[]) {
    const parsed = parseConfig({ ...LEAST, ...(name in LEAST ? {} : { [name]: defaultText(name) }) })
    assert(parsed.ok, name)
    const plain = parseConfig(LEAST)
    assert(plain.ok)
    assert.deepEqual(parsed.value.config, plain.value.config, name)
  }
})

test('any text in any key gives a value or faults, never an exception', () => {
  const keys = fc.constantFrom(...Object.keys(CONFIG_KEYS), '__proto__', 'constructor', 'x')
  fc.assert(
    fc.property(fc.dictionary(keys, fc.string()), (data) => {
      const parsed = parseConfig(data)
      if (!parsed.ok)
        for (const fault of parsed.error) assert.ok(fault.remedy !== undefined && fault.field !== undefined)
    }),
    { seed: 1, numRuns: 500 },
  )
})

test('a selector reads back from its own text and never throws', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const selector = parseSelector(text)
      if (selector !== undefined) assert.deepEqual(parseSelector(formatSelector(selector)), selector)
    }),
    { seed: 2, numRuns: 1000 },
  )
  const selector = parseSelector('a=b, c!=d,e in (f, g),!h,node-role.kubernetes.io/control-plane')
  assert(selector !== undefined)
  assert.equal(formatSelector(selector), 'a=b,c!=d,e in (f,g),!h,node-role.kubernetes.io/control-plane')
  assert.equal(selects(selector, { a: 'b', e: 'g', 'node-role.kubernetes.io/control-plane': '' }), true)
  assert.equal(selects(selector, { a: 'b', e: 'g', h: '', 'node-role.kubernetes.io/control-plane': '' }), false)
  assert.equal(selects([], {}), true)
})

test('durations are read as Go writes them', () => {
  assert.equal(parseDuration('1m30s'), 90_000)
  assert.equal(parseDuration('0'), 0)
  assert.equal(parseDuration('0s'), 0)
  assert.equal(parseDuration('5'), undefined)
  assert.equal(parseDuration('-5s'), undefined)
})

test('the nearest name is a likely slip or none', () => {
  assert.equal(nearest('encrpytion', ['debug', 'encryption']), 'encryption')
  assert.equal(nearest('foo', ['encryption', 'debug']), undefined)
})
