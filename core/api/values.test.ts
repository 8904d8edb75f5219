import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { judgeValue, judgeValues } from './values.ts'

test("the guide's install line is taken as it is", () => {
  assert.deepEqual(judgeValues({ encryption: { enabled: true, type: 'wireguard' } }), { faults: [], notes: [] })
})

test('all that the chart itself sets is supported', () => {
  const judged = judgeValues({
    pellicle: { clusterCIDRs: ['10.244.0.0/16'], profile: '1.14.5', datapath: 'auto' },
    tolerations: [{ operator: 'Exists' }],
    resources: { limits: { memory: '130Mi' } },
    updateStrategy: { rollingUpdate: { maxUnavailable: 2 } },
    operator: { replicas: 1, nodeSelector: { 'kubernetes.io/os': 'linux' } },
    extraConfig: { 'node-encryption-opt-out-labels': '' },
  })
  assert.deepEqual(judged, { faults: [], notes: [] })
})

for (const [path, value] of [
  ['encryption.strictMode.enabled', true],
  ['encryption.strictMode.egress.enabled', true],
  ['encryption.ztunnel.caAddress', 'https://x'],
  ['hostFirewall.enabled', true],
  ['policyEnforcementMode', 'always'],
  ['policyEnforcementMode', 'default'],
  ['authentication.mutual.spire.enabled', true],
  ['k8sNetworkPolicy.enabled', true],
  ['cni.chainingMode', 'aws-cni'],
  ['cni.chainingMode', 'portmap'],
  ['cni.chainingTarget', 'aws-cni'],
] as const) {
  test(`${path}=${value} promises what is not kept, and is refused`, () => {
    const verdict = judgeValue(path, value)
    assert.equal(verdict.kind, 'refused')
  })
}

for (const [path, value] of [
  ['encryption.strictMode.enabled', false],
  ['policyEnforcementMode', 'never'],
  ['cni.chainingMode', 'none'],
  ['authentication.enabled', false],
  ['hubble.relay.enabled', true],
  ['kubeProxyReplacement', true],
  ['encryption.ipsec.keyRotationDuration', '10m'],
  ['encryption.interface', 'eth0'],
  ['devices', 'eth0'],
  ['operator.prometheus.enabled', true],
  ['daemon.enableSourceIPVerification', true],
] as const) {
  test(`${path}=${value} is accepted without meaning`, () => {
    assert.equal(judgeValue(path, value).kind, 'meaningless')
  })
}

test('a slip names the nearest value', () => {
  assert.deepEqual(judgeValue('encrpytion.enabled', true), { kind: 'unknown', nearest: 'encryption' })
  assert.deepEqual(judgeValue('encryption.enabeld', true), { kind: 'unknown', nearest: 'encryption.enabled' })
  assert.deepEqual(judgeValue('pellicle.clusterCidrs', []), { kind: 'unknown', nearest: 'pellicle.clusterCIDRs' })
  assert.deepEqual(judgeValue('zzzzzz', 1), { kind: 'unknown', nearest: undefined })
})

for (const [values, sentence, remedy] of [
  [{ encryption: { type: 'wiregaurd' } }, 'encryption.type: wireguard or ipsec is needed', 'Did you mean wireguard?'],
  [{ encryption: { type: 'tls' } }, 'encryption.type: wireguard or ipsec is needed', 'Set it to wireguard or ipsec'],
  [{ ipam: { mode: 'kubernets' } }, 'ipam.mode: kubernetes or cluster-pool is needed', 'Did you mean kubernetes?'],
  [{ routingMode: 'natve' }, 'routingMode: tunnel or native is needed', 'Did you mean native?'],
  [{ encryption: { enabled: 'ture' } }, 'encryption.enabled: true or false is needed', 'Did you mean true?'],
  [{ ipv6: { enabled: 1 } }, 'ipv6.enabled: true or false is needed', 'Set it to true or false'],
  [{ debug: { enabled: 'true' } }, 'debug.enabled: true or false is needed', 'Give true as it is, not as a text'],
  [
    { pellicle: { datapath: 'kernl' } },
    'pellicle.datapath: auto or kernel or userspace is needed',
    'Did you mean kernel?',
  ],
  [
    { encryption: { ipsec: { udpEncapsulation: 'atuo' } } },
    'encryption.ipsec.udpEncapsulation: true or false or auto is needed',
    'Did you mean auto?',
  ],
] as const) {
  test(`a wrong choice is told with what there is: ${JSON.stringify(values)}`, () => {
    const told = judgeValues(values).faults.map((fault) => [fault.code, fault.message, fault.remedy])
    assert.deepEqual(told, [['values.invalid', sentence, remedy]])
  })
}

test('ztunnel is refused, and ipsec taken with all that Cilium has for it', () => {
  const { faults } = judgeValues({ encryption: { enabled: true, type: 'ztunnel' } })
  assert.deepEqual(
    faults.map((fault) => [fault.code, fault.field]),
    [['values.refused', 'encryption.type']],
  )
  const ipsec = {
    secretName: 'other-keys',
    keyFile: 'keys',
    mountPath: '/etc/ipsec',
    keyWatcher: false,
    interface: 'eth0',
    encryptedOverlay: true,
    udpEncapsulation: 'auto',
  }
  for (const encryption of [{ enabled: true, type: 'ipsec', ipsec }, { enabled: true }, { enabled: false, ipsec }]) {
    assert.deepEqual(judgeValues({ encryption }), { faults: [], notes: [] })
  }
  const timer = judgeValues({ encryption: { enabled: true, ipsec: { keyRotationDuration: '10m' } } })
  assert.deepEqual(
    timer.notes.map(({ path, reason }) => [path, /no timer/.test(reason)]),
    [['encryption.ipsec.keyRotationDuration', true]],
  )
  const wrong = judgeValues({ encryption: { ipsec: { udpEncapsulation: 'maybe', keyFile: 'a/b', mountPath: 'etc' } } })
  assert.deepEqual(
    wrong.faults.map((fault) => fault.field),
    ['encryption.ipsec.keyFile', 'encryption.ipsec.mountPath', 'encryption.ipsec.udpEncapsulation'],
  )
})

for (const [key, value, expected] of [
  ['enable-policy', 'always', /NetworkPolicy is not enforced.*Set it to never/],
  ['enable-encryption-strict-mode', true, /nothing leaves in clear/],
  ['encryption-strict-mode-cidr', '10.0.0.0/8', /nothing leaves in clear/],
  ['mesh-auth-enabled', 'true', /mutual authentication/],
  ['enable-ipsec', true, /written by the chart.*Set encryption\.enabled/],
  ['ipsec-key-file', '/x', /written by the chart.*encryption\.ipsec\.keyFile/],
  ['enable-wireguard', false, /written by the chart.*Set encryption\.enabled/],
  ['enable-wireguard ', false, /no name of a key/],
  ['pellicle-cluster-cidrs', '10.0.0.0/8', /written by the chart.*Set pellicle\.clusterCIDRs/],
  ['pellicle-mark-encrypt', '0xc000/0xc000', /bits\/mask/],
] as const) {
  test(`extraConfig.${key}=${value} is no way around a refusal`, () => {
    const { faults } = judgeValues({ extraConfig: { [key]: value } })
    assert.deepEqual(
      faults.map(({ code, field }) => [code, field]),
      [['values.refused', `extraConfig.${key}`]],
    )
    assert.match(`${faults[0]?.message} | ${faults[0]?.remedy}`, expected)
  })
}

test('extraConfig takes what agents read and what is off, and tells what they do not read', () => {
  const { faults, notes } = judgeValues({
    extraConfig: {
      'pellicle-mark-encrypt': '0xe00/0xf00',
      'enable-policy': 'never',
      'enable-host-firewall': false,
      'pellicle-mark-encript': '0x1/0x1',
      'bpf-map-dynamic-size-ratio': 0.0025,
    },
  })
  assert.deepEqual(faults, [])
  assert.deepEqual(
    notes.map(({ path, reason }) => [path, reason]),
    [
      ['extraConfig.pellicle-mark-encript', 'no agent reads it; did you mean pellicle-mark-encrypt?'],
      ['extraConfig.bpf-map-dynamic-size-ratio', 'no agent reads it'],
    ],
  )
})

test('any of the three datapaths may be asked for, and no other', () => {
  for (const datapath of ['auto', 'kernel', 'userspace']) {
    assert.deepEqual(judgeValues({ pellicle: { datapath } }).faults, [])
  }
  assert.deepEqual(
    judgeValues({ pellicle: { datapath: 'ebpf' } }).faults.map(({ field }) => field),
    ['pellicle.datapath'],
  )
})

test('wrong types are refused by field, one fault each', () => {
  const { faults } = judgeValues({
    encryption: { enabled: 'yes', wireguard: { persistentKeepalive: '5' } },
    MTU: 'big',
    pellicle: { clusterCIDRs: ['10.0.0.0'] },
  })
  assert.deepEqual(
    faults.map((fault) => fault.field),
    ['encryption.enabled', 'encryption.wireguard.persistentKeepalive', 'pellicle.clusterCIDRs.0', 'MTU'],
  )
})

test("one line is told for a whole subtree of Cilium's", () => {
  const { faults, notes } = judgeValues({ hubble: { relay: { enabled: true }, ui: { enabled: true } } })
  assert.deepEqual(faults, [])
  assert.deepEqual(
    notes.map((note) => note.path),
    ['hubble'],
  )
})

test('native routing needs to know what the network carries', () => {
  const fields = (values: object) => judgeValues({ ...values }).faults.map((fault) => fault.field)
  assert.deepEqual(fields({ routingMode: 'native' }), ['ipv4NativeRoutingCIDR'])
  assert.deepEqual(fields({ routingMode: 'native', enableIPv4Masquerade: false }), [])
  const given = { routingMode: 'native', ipv4NativeRoutingCIDR: '10.0.0.0/8', autoDirectNodeRoutes: true }
  assert.deepEqual(judgeValues(given), { faults: [], notes: [] })
})

test('a value of Cilium that means nothing here is told only where somebody chose it', () => {
  assert.deepEqual(judgeValues({ encryption: { ipsec: { keyRotationDuration: '5m' } } }).notes, [])
})

test('whatever is given, a judgement comes back', () => {
  fc.assert(
    fc.property(
      fc.object({ key: fc.constantFrom('encryption', 'enabled', 'cni', 'x', '__proto__', 'a.b') }),
      (values) => {
        judgeValues(values)
      },
    ),
    { seed: 3, numRuns: 500 },
  )
})
