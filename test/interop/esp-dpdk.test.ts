import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { after, before, suite, test } from 'node:test'
import { type Driver, dpdkEsp } from './esp-dpdk.ts'
import { askOurs, buildOurs, ipv4, type Keys, missingCargo, SPI, trailed } from './esp-packets.ts'

/**
 * Packets that DPDK's librte_ipsec made, opened by the engine's ciphers, and the other way round: an ESP in user space that has
 * 64-bit numbers and every algorithm that we have. Looked at and left: strongSwan's libipsec, openconnect and the crate
 * ryke have 32-bit numbers alone (we have no others), VPP and Open vSwitch with ESP are in no Debian, and what Go has for
 * IPsec tells the kernel or reads headers. test/kernel/esp-interop.test.ts has Linux itself as the other end.
 */
const dpdk = await dpdkEsp()
const skip = 'missing' in dpdk ? dpdk.missing : ((await missingCargo()) ?? false)

/** Bytes; `key` of an AEAD without its salt. OpenSSL's driver sends whole ICVs of AES-GCM, the other one any. */
const KINDS: readonly Kind[] = [
  ...[16, 24, 32].flatMap((key): Kind[] => [
    { algorithm: 1, icv: 8, cipher: 'gcm', driver: 'crypto_aesni_gcm', key },
    { algorithm: 1, icv: 12, cipher: 'gcm', driver: 'crypto_aesni_gcm', key },
    { algorithm: 1, icv: 16, cipher: 'gcm', driver: 'crypto_openssl', key },
  ]),
  { algorithm: 2, icv: 16, cipher: 'chacha', driver: 'crypto_chacha20_poly1305', key: 32 },
  ...[16, 24, 32].flatMap((key): Kind[] => [
    { algorithm: 3, icv: 12, cipher: 'cbc', driver: 'crypto_openssl', key, hmac: 256 },
    { algorithm: 3, icv: 16, cipher: 'cbc', driver: 'crypto_openssl', key, hmac: 256 },
    { algorithm: 4, icv: 24, cipher: 'cbc', driver: 'crypto_openssl', key, hmac: 384 },
    { algorithm: 5, icv: 32, cipher: 'cbc', driver: 'crypto_openssl', key, hmac: 512 },
  ]),
]
interface Kind {
  /** As docs/protocol/engine.md numbers them. */
  readonly algorithm: number
  readonly icv: number
  readonly cipher: 'gcm' | 'chacha' | 'cbc'
  readonly driver: Driver
  readonly key: number
  /** Bits of the hash, and of the key. */
  readonly hmac?: number
}

/** High and low halves. */
const NUMBERS = [
  { high: 0, low: 0xffff_ffff },
  { high: 1, low: 0 },
  { high: 0x8765_4321, low: 0x9abc_def0 },
]

let program: ChildProcess
let answers: AsyncIterator<string>

suite('ESP of DPDK', { skip, concurrency: 1 }, () => {
  before(async () => {
    await buildOurs()
    if ('missing' in dpdk) return
    const env = { ...process.env, ...dpdk.env }
    const child = spawn(dpdk.program, dpdk.args, { env, stdio: ['pipe', 'pipe', 'inherit'] })
    program = child
    answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  })
  after(() => program?.kill())

  for (const kind of KINDS) {
    test(`${kind.cipher} of ${kind.key * 8} bits ${kind.hmac === undefined ? '' : `HMAC-SHA-${kind.hmac} `}ICV ${kind.icv}`, async () => {
      const salt = kind.hmac === undefined ? 4 : 0
      const keys = { encryption: randomBytes(kind.key + salt), authentication: randomBytes((kind.hmac ?? 0) / 8) }
      const [block, iv] = kind.hmac === undefined ? [4, 8] : [16, 16]
      for (const { high, low } of NUMBERS) {
        for (const length of [1, 14, 1380]) {
          const packet = ipv4(randomBytes(length))
          const said = `high ${high}, ${packet.length} bytes`
          const text = trailed(packet, block).toString('hex')

          const theirs = await askDpdk('seal', kind, keys, high, low, packet.toString('hex'))
          assert.equal(await askOurs('open', kind, keys, high, low, theirs), text, `theirs, ${said}`)

          const room = (bytes: number) => '00'.repeat(bytes)
          const ours = await askOurs('seal', kind, keys, high, low, room(8 + iv) + text + room(kind.icv))
          assert.equal(await askDpdk('open', kind, keys, high, low, ours), packet.toString('hex'), `ours, ${said}`)
          if (length > 1) continue
          assert.equal(await askOurs('open', kind, keys, high + 1, low, theirs), 'forged', said)
          assert.equal(await askDpdk('open', kind, keys, high + 1, low, ours), 'forged', said)
        }
      }
    })
  }
})

async function askDpdk(verb: string, kind: Kind, keys: Keys, high: number, low: number, packet: string) {
  const hex = (bytes: Buffer) => (bytes.length === 0 ? '-' : bytes.toString('hex'))
  const [key, salt] = [keys.encryption.subarray(0, kind.key), keys.encryption.subarray(kind.key)]
  const sequence = (BigInt(high) << 32n) | BigInt(low)
  const words = [verb, kind.driver, kind.cipher, hex(key), hex(salt), kind.hmac ?? '-', hex(keys.authentication)]
  program.stdin?.write(`${[...words, kind.icv, SPI, sequence, packet].join(' ')}\n`)
  const { done, value } = await answers.next()
  assert.ok(done !== true, 'the program has ended')
  return value
}
