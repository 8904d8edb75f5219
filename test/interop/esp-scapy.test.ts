import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { after, before, suite, test } from 'node:test'
import { askOurs, buildOurs, ipv4, type Keys, missingCargo, SPI, trailed } from './esp-packets.ts'
import { scapyPython } from './esp-scapy.ts'

// Packets that scapy (on OpenSSL) made, opened by the engine's ciphers, and the other way round.
const scapy = await scapyPython()
const skip = 'missing' in scapy ? scapy.missing : ((await missingCargo()) ?? false)

/**
 * Names as scapy has them; bytes of keys, of an AEAD with its salt. ICVs of 8 and 12 bytes are held against OpenSSL in
 * test/vectors/esp-packets.json: scapy 2.8 sends all 16 bytes of AES-GCM's whatever it is asked.
 */
const KINDS = [
  { algorithm: 1, icv: 16, crypt: 'AES-GCM', key: 20, block: 4, iv: 8 },
  { algorithm: 1, icv: 16, crypt: 'AES-GCM', key: 28, block: 4, iv: 8 },
  { algorithm: 1, icv: 16, crypt: 'AES-GCM', key: 36, block: 4, iv: 8 },
  { algorithm: 2, icv: 16, crypt: 'CHACHA20-POLY1305', key: 36, block: 4, iv: 8 },
  ...[16, 24, 32].flatMap((key) => [
    { algorithm: 3, icv: 16, crypt: 'AES-CBC', key, block: 16, iv: 16, auth: 'SHA2-256-128', authKey: 32 },
    { algorithm: 4, icv: 24, crypt: 'AES-CBC', key, block: 16, iv: 16, auth: 'SHA2-384-192', authKey: 48 },
    { algorithm: 5, icv: 32, crypt: 'AES-CBC', key, block: 16, iv: 16, auth: 'SHA2-512-256', authKey: 64 },
  ]),
] as const
type Kind = (typeof KINDS)[number] & { readonly auth?: string; readonly authKey?: number }

/** 32-bit numbers, 64-bit ones whose high half is 0, and others. */
const NUMBERS = [
  { high: null, low: 5 },
  { high: 0, low: 0xffff_ffff },
  { high: 1, low: 0 },
  { high: 0x8765_4321, low: 0x9abc_def0 },
]
let python: ChildProcess
let answers: AsyncIterator<string>

suite('ESP of scapy', { skip, concurrency: 1 }, () => {
  before(async () => {
    await buildOurs()
    if ('missing' in scapy) return
    const script = new URL('esp-scapy.py', import.meta.url).pathname
    const child = spawn(scapy.python, [script], { stdio: ['pipe', 'pipe', 'inherit'] })
    python = child
    answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  })
  after(() => python?.kill())

  for (const kind of KINDS as readonly Kind[]) {
    test(`${kind.crypt}-${(kind.key - (kind.auth === undefined ? 4 : 0)) * 8} ${kind.auth ?? ''} ICV ${kind.icv}`, async () => {
      const keys = { encryption: randomBytes(kind.key), authentication: randomBytes(kind.authKey ?? 0) }
      for (const { high, low } of NUMBERS) {
        for (const length of [0, 1, 13, 1380]) {
          const packet = ipv4(randomBytes(length))
          const said = `high ${high}, ${packet.length} bytes`

          const theirs = await askScapy('seal', kind, keys, high, low, packet.toString('hex'))
          const text = await askOurs('open', kind, keys, high, low, theirs)
          assert.equal(text, trailed(packet, kind.block).toString('hex'), `theirs, ${said}`)
          assert.equal(await askOurs('open', kind, keys, (high ?? 0) + 1, low, theirs), 'forged', said)

          const room = (bytes: number) => '00'.repeat(bytes)
          const rooms = room(8 + kind.iv) + text + room(kind.icv)
          const ours = await askOurs('seal', kind, keys, high, low, rooms)
          assert.equal(await askScapy('open', kind, keys, high, low, ours), packet.toString('hex'), `ours, ${said}`)
        }
      }
    })
  }

  test('scapy refuses what it should: the test can fail', async () => {
    const kind = KINDS[0]
    const keys = { encryption: randomBytes(kind.key), authentication: randomBytes(0) }
    const rooms = `${'00'.repeat(16)}${trailed(ipv4(randomBytes(40)), 4).toString('hex')}${'00'.repeat(16)}`
    const ours = await askOurs('seal', kind, keys, 7, 1, rooms)
    assert.equal(await askScapy('open', kind, keys, 8, 1, ours), 'forged')
    assert.notEqual(await askScapy('open', kind, keys, 7, 1, ours), 'forged')
  })
})

async function askScapy(verb: string, kind: Kind, keys: Keys, high: number | null, sequence: number, packet: string) {
  const ask = {
    verb,
    crypt: kind.crypt,
    crypt_key: keys.encryption.toString('hex'),
    auth: kind.auth ?? 'NULL',
    auth_key: keys.authentication.toString('hex'),
    icv: kind.auth === undefined ? kind.icv : null,
    spi: SPI,
    sequence,
    high,
    packet,
  }
  python.stdin?.write(`${JSON.stringify(ask)}\n`)
  const { done, value } = await answers.next()
  assert.ok(done !== true, 'scapy has ended')
  return value
}
