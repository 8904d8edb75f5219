import { fromHex } from '#core/bytes/text.ts'
import { Fault } from '#core/fault/fault.ts'
import { fail, ok, type Result } from '#core/fault/result.ts'
import { AEADS, bits, CIPHERS, MACS, MAX_KEY_BYTES, UNENCRYPTED } from './algorithm.ts'
import { keyFingerprint } from './fingerprint.ts'
import type { IpsecHash } from './hash.ts'
import { hasKey, type IpsecKey, type KeyRef, MAX_KEY_ID } from './key.ts'
import { newKeyWeakness, weaknessOf } from './weak-key.ts'

/**
 * The text of the secret `cilium-ipsec-keys` (Cilium's `loadIPSecKeys`, 1.14 to 1.20; our own summary of it). Fields are
 * separated by white space; one key a line:
 *
 *     ID[+] AEAD-ALGORITHM HEX-KEY ICV-BITS
 *     ID[+] AUTH-ALGORITHM HEX-KEY ENCRYPTION-ALGORITHM HEX-KEY
 *
 * `+` once asked for keys per pair of nodes, which are always used here. `0x` before a key is taken off. The last line is
 * the current key. Errors of Cilium have Cilium's texts, save that none repeats what could be key material; what
 * Cilium takes although it cannot work is an error here.
 */
export function parseKeyTexts(text: string, hash: IpsecHash): Result<readonly IpsecKey[], Fault> {
  const lines = text.trimEnd().split('\n')
  if (lines.length === 1 && lines[0] === '') {
    return fail(
      new Fault('ipsec.key.empty', 'error scanning IPsec key: empty or malformed input', {
        field: 'line 1',
        remedy: REMEDY,
      }),
    )
  }
  const keys: IpsecKey[] = []
  try {
    for (const [at, line] of lines.entries()) {
      const key = parseLine(new Words(line, at + 1), hash)
      if (keys.at(-1)?.id === key.id) {
        throw new Fault('ipsec.key.id', 'invalid SPI: changing IPSec keys requires incrementing the key id', {
          field: `line ${at + 1}, field 1`,
          remedy: `Give this line another id than ${key.id}.`,
        })
      }
      keys.push(key)
    }
  } catch (error) {
    if (error instanceof Fault) return fail(error)
    throw error
  }
  return ok(keys)
}

/** Of a text that is about to be taken, without the lines of `held`, which are in use already. */
export function refuseWeak(keys: readonly IpsecKey[], held: readonly KeyRef[]): Fault | undefined {
  for (const [at, key] of keys.entries()) {
    const weak = hasKey(held, key) ? undefined : newKeyWeakness(key)
    if (weak !== undefined) return new Fault('ipsec.key.weak', weak, { field: `line ${at + 1}`, remedy: RANDOM })
  }
  return undefined
}

/** Whether a key's first field ends in `+`, for those who write the next one alike. */
export function hasPlus(text: string): boolean {
  const last = text.trim().split('\n').at(-1)
  return /^\S*\+\s/.test(last?.trim() ?? '')
}

const RANDOM = 'Use random bytes, such as those of `openssl rand -hex 20`.'
const REMEDY = 'Write ID[+] ALGORITHM HEX-KEY ICV-BITS, such as `3+ rfc4106(gcm(aes)) <40 hex digits> 128`.'

/** The fields of one line, for errors that say where. */
class Words {
  readonly list: readonly string[]
  readonly #line: number

  constructor(line: string, number: number) {
    this.list = line.split(/\s+/).filter((word) => word !== '')
    this.#line = number
  }

  at(index: number): string {
    return this.list[index] ?? ''
  }

  /** @throws Fault always. `index` counts from 0, people from 1. */
  refuse(index: number | undefined, message: string, remedy: string, code = 'ipsec.key.invalid'): never {
    const field = index === undefined ? `line ${this.#line}` : `line ${this.#line}, field ${index + 1}`
    throw new Fault(code, message, { field, remedy })
  }
}

function parseLine(words: Words, hash: IpsecHash): IpsecKey {
  const count = words.list.length
  if (count < 3) words.refuse(undefined, 'missing IPSec key or invalid format', REMEDY)
  const id = parseId(words)
  if (count > 5) words.refuse(5, 'invalid format: too many fields in the IPsec secret', REMEDY)
  const material = count === 5 ? parseTwo(words) : parseAead(words)
  const weak = weaknessOf(material)
  if (weak !== undefined) {
    words.refuse(undefined, weak, RANDOM, 'ipsec.key.weak')
  }
  return { id, fingerprint: keyFingerprint(material, hash), ...material }
}

function parseId(words: Words): number {
  const word = words.at(0).replace(/\+$/, '')
  const remedy = `Begin the line with a key id from 1 to ${MAX_KEY_ID}.`
  const wrong = (what: string) => words.refuse(0, `failed to parse SPI: ${what} Attempted ${shown(word)}`, remedy)
  const nonzero = 'ID must be nonzero and less than 16.'
  if (!/^[+-]?[0-9]+$/.test(word)) wrong('the first argument of the IPsec secret is not a number.')
  const id = Number(word)
  if (id > MAX_KEY_ID) wrong(`encryption key space exhausted. ${nonzero}`)
  if (id === 0) wrong(`zero is not a valid key ID. ${nonzero}`)
  if (id < 0) wrong(`a key ID is not negative. ${nonzero}`)
  return id
}

type Material = Omit<IpsecKey, 'id' | 'fingerprint'>

/** @throws Fault at whatever is wrong. Three fields have no ICV. */
function parseAead(words: Words): Material {
  const name = words.at(1)
  if (!name.startsWith('rfc') || !isAlgorithmName(name)) {
    words.refuse(
      1,
      `invalid AEAD algorithm ${shown(name)}`,
      `The name is one such as ${Object.keys(AEADS).join(', ')}.`,
    )
  }
  refuseUnencrypted(words, 1)
  const encryptionKey = parseKey(words, 2, 'AEAD key')
  const icv = words.at(3)
  if (!/^[+-]?[0-9]+$/.test(icv)) {
    words.refuse(3, 'ICV length is invalid or missing', 'End the line with the length of the ICV in bits: 128.')
  }
  if (![96, 128, 256].includes(Number(icv))) {
    words.refuse(3, 'only ICV lengths 96, 128, and 256 are accepted', 'End the line with 128.')
  }
  const icvBytes = Number(icv) / 8
  const known = AEADS[name]
  if (known !== undefined) {
    checkLength(words, 2, name, encryptionKey, known.keyBytes, `, the last ${known.saltBytes * 8} of them salt`)
    if (!known.icvBytes.includes(icvBytes)) {
      const has = `${name} has ICVs of ${bits(known.icvBytes)} bits, not ${icvBytes * 8}`
      words.refuse(3, `ICV length is invalid: ${has}`, 'End the line with 128.')
    }
  }
  const none = { authenticationAlgorithm: undefined, authenticationKey: new Uint8Array(0) }
  return { encryptionAlgorithm: name, encryptionKey, ...none, icvBytes }
}

function parseTwo(words: Words): Material {
  const authenticationAlgorithm = words.at(1)
  const encryptionAlgorithm = words.at(3)
  for (const index of [1, 3]) {
    if (isAlgorithmName(words.at(index))) continue
    const what = index === 1 ? 'authentication' : 'encryption'
    const names = Object.keys(index === 1 ? MACS : CIPHERS).join(', ')
    words.refuse(index, `invalid ${what} algorithm ${shown(words.at(index))}`, `The name is one such as ${names}.`)
  }
  refuseUnencrypted(words, 3)
  const authenticationKey = parseKey(words, 2, 'authentication key')
  const encryptionKey = parseKey(words, 4, 'encryption key')
  // any word may stand there, `constructor` too
  const lengths = Object.hasOwn(CIPHERS, encryptionAlgorithm) ? CIPHERS[encryptionAlgorithm] : undefined
  if (lengths !== undefined) checkLength(words, 4, encryptionAlgorithm, encryptionKey, lengths, '')
  const icvBytes = MACS[authenticationAlgorithm]?.icvBytes ?? 0
  return { encryptionAlgorithm, encryptionKey, authenticationAlgorithm, authenticationKey, icvBytes }
}

function refuseUnencrypted(words: Words, index: number): void {
  if (!UNENCRYPTED.includes(words.at(index))) return
  words.refuse(index, `${words.at(index)} encrypts nothing`, 'Use rfc4106(gcm(aes)).')
}

/** `""` is an empty key, as in Cilium; it is found weak later. */
function parseKey(words: Words, index: number, what: string): Uint8Array {
  const word = words.at(index)
  const bytes = word === '""' ? new Uint8Array(0) : fromHex(word.replace(/^0x/, ''))
  if (bytes === undefined || (bytes.length === 0 && word !== '""')) {
    const remedy = 'A key is an even number of hexadecimal digits without spaces between them.'
    return words.refuse(index, `unable to decode ${what} string (${word.length} characters, not shown)`, remedy)
  }
  if (bytes.length > MAX_KEY_BYTES) {
    const most = `a key has at most ${MAX_KEY_BYTES * 8} bits; this one has ${bytes.length * 8}`
    words.refuse(index, `invalid key length: ${most}`, `Use at most ${MAX_KEY_BYTES * 2} hex digits.`)
  }
  return bytes
}

function checkLength(
  words: Words,
  index: number,
  name: string,
  key: Uint8Array,
  lengths: readonly number[],
  salt: string,
): void {
  if (lengths.includes(key.length)) return
  const has = `${name} takes keys of ${bits(lengths)} bits${salt}; this one has ${key.length * 8}`
  words.refuse(index, `invalid key length: ${has}`, `Use ${lengths.map((count) => count * 2).join(' or ')} hex digits.`)
}

/** As in Linux; so narrow that no hexadecimal or base64 key is one: it may be shown. */
function isAlgorithmName(word: string): boolean {
  return (
    /^[a-z][a-z0-9_]{0,15}([-(),]+[a-z0-9_]{1,15})*\)*$/.test(word) && word.length < 64 && !/^[0-9a-f]+$/.test(word)
  )
}

/** A word for a message: itself when it can be no part of a key, else only its length. */
function shown(word: string): string {
  const harmless = /^[+-]?[0-9]{1,3}\+?$/.test(word) || (isAlgorithmName(word) && /[(_]/.test(word))
  return harmless ? `"${word}"` : `"…" (${word.length} characters, not shown)`
}
