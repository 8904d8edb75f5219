import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { ipToBytes, parseIp } from '#core/ip/address.ts'
import { bits, boolean, context, integer, octets, oid, sequence, set, time, tlv, utf8 } from './der.ts'

// X.509 version 3 by RFC 5280, ECDSA P-256 with SHA-256 (RFC 5758): just what the programs of a cluster need of each other.

export interface Issued {
  readonly certificate: string
  /** PKCS #8 PEM. */
  readonly key: string
}

export interface Authority extends Issued {
  readonly subject: Subject
  readonly privateKey: KeyObject
}

export interface Subject {
  readonly name: string
  readonly organization?: string
}

export interface Request extends Subject {
  readonly usages: readonly ('server' | 'client')[]
  /** IP addresses and DNS names. */
  readonly alternatives?: readonly string[]
}

const ECDSA_WITH_SHA256 = sequence(oid('1.2.840.10045.4.3.2'))
const YEARS_MS = 10 * 365 * 86_400_000

export function makeAuthority(subject: Subject, now: number): Authority {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const extensions = [
    extension('2.5.29.19', sequence(boolean(true)), true),
    extension('2.5.29.15', bits(Uint8Array.of(0x86), 1), true), // digitalSignature, keyCertSign, cRLSign
  ]
  const certificate = assemble(subject, privateKey, subject, privateKey, extensions, now)
  return { certificate, key: pem(privateKey), subject, privateKey }
}

export function issue(authority: Authority, request: Request, now: number): Issued {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const usage = { server: oid('1.3.6.1.5.5.7.3.1'), client: oid('1.3.6.1.5.5.7.3.2') }
  const extensions = [
    extension('2.5.29.19', sequence(), true),
    extension('2.5.29.15', bits(Uint8Array.of(0x80), 7), true), // digitalSignature
    extension('2.5.29.37', sequence(...request.usages.map((name) => usage[name]))),
  ]
  const names = request.alternatives ?? []
  if (names.length > 0) extensions.push(extension('2.5.29.17', sequence(...names.map(generalName))))
  const certificate = assemble(request, privateKey, authority.subject, authority.privateKey, extensions, now)
  return { certificate, key: pem(privateKey) }
}

/** Key pair that signs ServiceAccount tokens; the API server checks them with the public half. */
export function makeTokenKey(): { readonly privateKey: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  return { privateKey: pem(privateKey), publicKey: publicKey.export({ type: 'spki', format: 'pem' }) }
}

function assemble(
  subject: Subject,
  key: KeyObject,
  issuer: Subject,
  issuerKey: KeyObject,
  extensions: readonly Uint8Array[],
  now: number,
): string {
  const serial = randomBytes(16)
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40 // positive and of full length
  const body = sequence(
    context(0, integer(Uint8Array.of(2))),
    integer(serial),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer),
    sequence(time(now - 300_000), time(now + YEARS_MS)), // five minutes for a clock that is set back
    distinguishedName(subject),
    createPublicKey(key).export({ type: 'spki', format: 'der' }),
    context(3, sequence(...extensions)),
  )
  const signature = sign('sha256', body, issuerKey)
  const der = Buffer.from(sequence(body, ECDSA_WITH_SHA256, bits(signature)))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

function extension(id: string, value: Uint8Array, critical = false): Uint8Array {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value))
}

function distinguishedName({ name, organization }: Subject): Uint8Array {
  const attribute = (id: string, value: string): Uint8Array => set(sequence(oid(id), utf8(value)))
  return sequence(
    ...(organization === undefined ? [] : [attribute('2.5.4.10', organization)]),
    attribute('2.5.4.3', name),
  )
}

function generalName(name: string): Uint8Array {
  const ip = parseIp(name)
  return ip === undefined ? tlv(0x82, new TextEncoder().encode(name)) : tlv(0x87, ipToBytes(ip))
}

function pem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' })
}
