import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type EngineKeys, encodeKeys, type Outer } from '#core/engine/association.ts'
import type { EngineRequest } from '#core/engine/request.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { EngineClient } from '#io/engine/engine-client.ts'
import type { Side } from '#test/kit/tunnel-lab.ts'

const PATIENCE_MS = 5000
const FIRST_SPI = 0x100
const PORT = 4500
/** For packets by the former key that are still under way. */
const GRACE_MS = 1000

/** One end of a tunnel: where it is and how its engine is asked. */
export interface IpsecEnd {
  readonly side: Side
  readonly socket: string
  /** The address of its ESP packets. */
  readonly outer: string
}

export interface IpsecJoined {
  /** New keys in both directions, in the order of core/transition: receive by both, send by the new one, forget the old. */
  rotate(): Promise<void>
  close(): void
}

/** One end with its engine's client. */
interface Party {
  readonly client: EngineClient
  readonly own: Outer
  readonly prefixes: readonly string[]
}

/** Hands two engines keys of their own in either direction: AES-GCM-128, as strongSwan has it in the same tables. */
export async function joinByIpsec(
  ends: readonly [IpsecEnd, IpsecEnd],
  encapsulation: 'udp' | 'none',
): Promise<IpsecJoined> {
  const parties = [partyOf(ends[0], ends[1]), partyOf(ends[1], ends[0])] as const
  for (const { client, prefixes } of parties) {
    await ask(client, { op: 'setPeer', peer: 0, publicKey: publicKeyOf(randomBytes(32)), endpoint: undefined })
    const allowed = prefixes.map((prefix) => requireCidr(prefix, 'inner'))
    await ask(client, { op: 'allow', peer: 0, prefixes: allowed })
  }
  let [spi, keys] = [FIRST_SPI, newKeys()]
  const receive = async (next: readonly [EngineKeys, EngineKeys], by: number) => {
    for (const [index, { client, own }] of parties.entries()) {
      const outer = { source: own.destination, destination: own.source }
      const theirs = next[index === 0 ? 1 : 0]
      await ask(client, { op: 'setReceiving', peer: 0, spi: by, outer, keys: copyOf(theirs) })
    }
  }
  const send = async (next: readonly [EngineKeys, EngineKeys], by: number) => {
    for (const [index, { client, own }] of parties.entries()) {
      const mine = copyOf(next[index === 0 ? 0 : 1])
      await ask(client, { op: 'setSending', peer: 0, spi: by, encapsulation, port: PORT, outer: own, keys: mine })
    }
  }
  // one end at a time would do as well: nothing is sent to a peer before something authenticated came from it
  await receive(keys, spi)
  await send(keys, spi)
  return {
    async rotate() {
      const [before, next, by] = [keys, newKeys(), spi + 1]
      await receive(next, by)
      await send(next, by)
      await sleep(GRACE_MS)
      for (const [index, { client }] of parties.entries()) {
        const theirs = before[index === 0 ? 1 : 0]
        const fingerprint = fingerprintOf(theirs)
        await ask(client, { op: 'removeAssociation', direction: 'in', peer: 0, spi, fingerprint })
      }
      ;[spi, keys] = [by, next]
    },
    close() {
      for (const { client } of parties) client.close()
    },
  }
}

function partyOf(end: IpsecEnd, other: IpsecEnd): Party {
  const silent = { ready: () => undefined, event: () => undefined, refused: () => undefined, away: () => undefined }
  const client = new EngineClient(end.socket, silent)
  client.start()
  const own = { source: requireIp(end.outer, 'outer'), destination: requireIp(other.outer, 'outer') }
  return { client, own, prefixes: [`${other.side.inner[4]}/32`, `${other.side.inner[6]}/128`] }
}

async function ask(client: EngineClient, request: EngineRequest): Promise<void> {
  const { status, text } = await client.ask(request, PATIENCE_MS)
  if (status !== 'done') throw new Error(`the engine refused ${request.op} (${status}): ${text}`)
}

/** What each end sends by. */
function newKeys(): readonly [EngineKeys, EngineKeys] {
  // 16 bytes and 4 of salt
  const one = (): EngineKeys => ({
    algorithm: 'aes-gcm',
    icv: 16,
    encryption: new Uint8Array(randomBytes(20)),
    authentication: new Uint8Array(0),
  })
  return [one(), one()]
}

/** The engine's client overwrites what it has sent. */
function copyOf(keys: EngineKeys): EngineKeys {
  return { ...keys, encryption: keys.encryption.slice() }
}

/** docs/protocol/engine.md, "Devices of IPsec". */
function fingerprintOf(keys: EngineKeys): string {
  return createHash('sha256').update(encodeKeys(keys)).digest('hex').slice(0, 16)
}
