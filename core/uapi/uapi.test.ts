import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '#core/fault/fault.ts'
import { ipFromValue } from '#core/ip/address.ts'
import { cidrOf } from '#core/ip/cidr.ts'
import { Device } from '#core/wireguard/device.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { formatLabels, parseLabels } from '#core/wireguard/labels.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { seededRandom } from '#test/kit/seeded-random.ts'
import { errnoOf } from './errno.ts'
import { formatConfiguration, formatDevice } from './format.ts'
import { parseChange, parseControlRequest } from './parse.ts'
import { OperationSplitter } from './splitter.ts'

const now = { monotonic: 1e6, unix: 1_790_000_000_123 }
const random = seededRandom(11)
const hexKey = 'b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33'
const newDevice = () => new Device({ crypto: wireguardCrypto, random, maxPeers: 64 })

test('the example of the specification is taken line by line', () => {
  const request = parseControlRequest(`set=1
private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a
fwmark=0
listen_port=12912
replace_peers=true
public_key=${hexKey}
preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
allowed_ip=-10.0.0.0/8
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58
remove=true
update_only=true
protocol_version=1
`)
  assert.ok(request.op === 'set')
  const { change } = request
  assert.deepEqual([change.listenPort, change.mark, change.replacePeers, change.peers.length], [12912, 0, true, 3])
  const [a, b, c] = change.peers
  assert.deepEqual(a?.endpoint, { ip: 'abcd:23::33', port: 51820, scope: 2 })
  assert.ok(a?.presharedKey instanceof Uint8Array)
  assert.deepEqual(b?.allowedIps, [
    { prefix: '192.168.4.6/32', remove: false },
    { prefix: '10.0.0.0/8', remove: true },
  ])
  assert.equal(b?.persistentKeepalive, 111)
  assert.ok(c?.remove && c.updateOnly)
  assert.deepEqual(parseControlRequest('get=1\n'), { op: 'get' })
})

test('a wrong line is refused by its number, and a key is never repeated', () => {
  const peer = `set=1\npublic_key=${hexKey}\n`
  for (const [text, line, errno] of [
    ['', 1, -22],
    ['get=2', 1, -22],
    ['get=1\nx=y', 2, -22],
    ['set=1\nnonsense', 2, -22],
    ['set=1\n=x', 2, -22],
    ['set=1\nprivate_key=SECRETSECRET', 2, -22],
    [`set=1\nprivate_key=${hexKey}00`, 2, -22],
    ['set=1\nlisten_port=65536', 2, -22],
    ['set=1\nlisten_port=-1', 2, -22],
    ['set=1\nfwmark=4294967296', 2, -22],
    ['set=1\nreplace_peers=false', 2, -22],
    ['set=1\nremove=true', 2, -22],
    [`set=1\npublic_key=${'00'.repeat(32)}`, 2, -22],
    [`set=1\npublic_key=${hexKey.slice(1)}`, 2, -22],
    [`${peer}listen_port=1`, 3, -22],
    [`${peer}preshared_key=SECRETSECRET`, 3, -22],
    [`${peer}endpoint=1.2.3.4`, 3, -22],
    [`${peer}endpoint=1.2.3.4:0`, 3, -22],
    [`${peer}endpoint=1.2.3.4:65536`, 3, -22],
    [`${peer}endpoint=[1.2.3.4]:1`, 3, -22],
    [`${peer}endpoint=host.example:1`, 3, -22],
    [`${peer}endpoint=[fe80::1%nothere]:1`, 3, -22],
    [`${peer}allowed_ip=10.0.0.0`, 3, -22],
    [`${peer}allowed_ip=10.0.0.0/33`, 3, -22],
    [`${peer}persistent_keepalive_interval=off`, 3, -22],
    [`${peer}protocol_version=2`, 3, -93],
    [`${peer}unknown=1`, 3, -22],
  ] as const) {
    assert.throws(
      () => parseControlRequest(text),
      (error) =>
        error instanceof Fault &&
        error.field === `line ${line}` &&
        errnoOf(error) === errno &&
        !error.message.includes('SECRET') &&
        !error.message.includes(hexKey.slice(1, 20)),
      text,
    )
  }
})

const key = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter((bytes) => bytes.some((b) => b !== 0))
const secret = fc.option(fc.oneof(key, fc.constant('none' as const)), { nil: undefined })
const ip = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 32n) - 1n }).map((v) => ipFromValue(4, v)),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((v) => ipFromValue(6, v)),
)
const prefix = fc.tuple(ip, fc.nat(32)).map(([address, length]) => cidrOf(address, length))
const peer = fc.record({
  publicKey: key.map((bytes) => publicKeyOf(wireguardCrypto.importKey(bytes).publicKey)),
  remove: fc.constant(false),
  updateOnly: fc.constant(false),
  presharedKey: fc.oneof(key, fc.constant('none' as const)),
  endpoint: fc.record({ ip, port: fc.integer({ min: 1, max: 65535 }), scope: fc.constant(0) }),
  persistentKeepalive: fc.nat(65535),
  replaceAllowedIps: fc.constant(true),
  allowedIps: fc.array(fc.record({ prefix, remove: fc.constant(false) }), { maxLength: 4 }),
})
const peers = fc.uniqueArray(peer, { maxLength: 5, selector: ({ publicKey }) => publicKey })

test('a saved configuration is read back as it was', () => {
  fc.assert(
    fc.property(secret, fc.nat(65535), fc.nat(), peers, (privateKey, listenPort, mark, list) => {
      const change = { ...(privateKey && { privateKey }), listenPort, mark, replacePeers: true, peers: list }
      const [first, second] = [newDevice(), newDevice()]
      first.configure(now, change)
      const text = formatConfiguration(first)
      second.configure(now, parseChange(text.trimEnd().split('\n')), true)
      assert.equal(formatConfiguration(second), text)
      assert.equal(formatDevice(second), formatDevice(first))
      assert.equal(second.peers.size, list.length)
    }),
    { seed: 12, numRuns: 60 },
  )
})

test('get tells what wg shows', () => {
  const device = newDevice()
  const text = `listen_port=51871\nfwmark=3584\npublic_key=${hexKey}\nendpoint=192.0.2.9:51871\nallowed_ip=10.0.0.0/24\n`
  device.configure(now, parseChange(text.trimEnd().split('\n')))
  const peerOf = [...device.peers.values()][0]!
  peerOf.lastHandshake = 1_790_000_000_123
  assert.equal(
    formatDevice(device),
    `${text}last_handshake_time_sec=1790000000\nlast_handshake_time_nsec=123000000\ntx_bytes=0\nrx_bytes=0\n` +
      'protocol_version=1\nerrno=0\n\n',
  )
  assert.equal(formatDevice(newDevice()), 'errno=0\n\n')
})

test('random text gives a request or a fault', () => {
  const words = fc.constantFrom(
    'set=1',
    'get=1',
    `public_key=${hexKey}`,
    'allowed_ip=',
    'endpoint=[',
    '=',
    'remove=true',
  )
  const line = fc.oneof(
    words,
    fc.string({ unit: 'binary' }),
    fc.tuple(words, fc.string()).map((pair) => pair.join('')),
  )
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
      try {
        parseControlRequest(lines.join('\n'))
      } catch (error) {
        assert.ok(error instanceof Fault, String(error))
      }
    }),
    { seed: 13, numRuns: 500 },
  )
})

test('operations are cut at empty lines, wherever the stream was broken', () => {
  const stream = 'get=1\n\n\nset=1\nlisten_port=1\n\nget=1\n\nrest'
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 12 })), (sizes) => {
      const splitter = new OperationSplitter()
      const operations: string[] = []
      let at = 0
      for (const size of [...sizes, stream.length]) {
        operations.push(...splitter.push(stream.slice(at, at + size)))
        at += size
      }
      assert.deepEqual(operations, ['get=1\n', 'set=1\nlisten_port=1\n', 'get=1\n'])
    }),
    { seed: 14 },
  )
  assert.throws(() => [...new OperationSplitter().push('x'.repeat((16 << 20) + 1))], Fault)
})

test('labels are read back; a broken line costs only itself', () => {
  const publicKey = publicKeyOf(random(32))
  const labels = { received: random(12), sent: random(12) }
  const text = formatLabels([[publicKey, labels]])
  assert.deepEqual(parseLabels(`broken\n${text}${publicKey} 00 11\n\n`).get(publicKey), {
    received: new Uint8Array(labels.received),
    sent: new Uint8Array(labels.sent),
  })
  fc.assert(
    fc.property(fc.string(), (junk) => void parseLabels(junk)),
    { seed: 15 },
  )
})

test('a key that was pasted as a line is not said again', () => {
  const secret = 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='
  for (const before of ['', `public_key=${'01'.repeat(32)}\n`]) {
    assert.throws(
      () => parseControlRequest(`set=1\n${before}${secret}\n\n`),
      (error) => error instanceof Fault && !error.message.includes(secret.slice(0, 8)),
    )
  }
})

test('130,560 prefixes of one peer, or 40 peers of 1,700, are one operation, said back as they were', () => {
  const prefixes: string[] = []
  for (let a = 1; a <= 255; a++)
    for (let b = 0; b <= 255; b++) prefixes.push(`${a}.${b}.0.0/16`, `${a.toString(16)}::${b.toString(16)}/128`)
  const canonical = (lines: readonly string[]) =>
    parseChange(lines).peers.flatMap(({ allowedIps }) => allowedIps.map((change) => change.prefix))
  for (const count of [1, 40]) {
    const lines: string[] = ['replace_peers=true']
    for (let i = 0; i < count; i++) {
      lines.push(`public_key=${publicKeyOfNumber(i)}`, 'replace_allowed_ips=true')
      const own = count === 1 ? prefixes : prefixes.slice(i * 1700, (i + 1) * 1700)
      for (const text of own) lines.push(`allowed_ip=${text}`)
    }
    const splitter = new OperationSplitter()
    const [operation = ''] = splitter.push(`set=1\n${lines.join('\n')}\n\n`)
    const request = parseControlRequest(operation)
    assert.ok(request.op === 'set')
    const device = new Device({ crypto: wireguardCrypto, random, maxPeers: 64 })
    device.configure({ monotonic: 1, unix: 1 }, request.change)
    let allowed = 0
    for (let order = device.poll(); order !== undefined; order = device.poll()) {
      if (order.op === 'allow') allowed += order.prefixes.length
    }
    const expected = count === 1 ? prefixes.length : count * 1700
    assert.equal(allowed, expected)
    const said = formatDevice(device)
      .split('\n')
      .filter((line) => line.startsWith('public_key=') || line.startsWith('allowed_ip='))
    assert.equal(said.length, expected + count)
    if (count > 1) assert.deepEqual(canonical(said), canonical(lines))
  }
})

/** Some key that is not all zero, in hex. */
function publicKeyOfNumber(i: number): string {
  return (i + 1).toString(16).padStart(64, '0')
}
