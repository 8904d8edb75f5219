import { randomBytes } from 'node:crypto'
import type { EngineKeys } from '#core/engine/association.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { publicKeyOf } from '#core/wireguard/key.ts'
import { EngineClient } from '#io/engine/engine-client.ts'
import type { Side } from '#test/kit/tunnel-lab.ts'

const PATIENCE_MS = 5000
const SPI = 0x100

/** One end of a tunnel: where it is and how its engine is asked. */
export interface IpsecEnd {
  readonly side: Side
  readonly socket: string
}

/** Hands two engines keys of their own in either direction: AES-GCM-128, as strongSwan has it in the same tables. */
export async function joinByIpsec(
  ends: readonly [IpsecEnd, IpsecEnd],
  encapsulation: 'udp' | 'none',
): Promise<AsyncDisposable> {
  const clients = ends.map(({ socket }) => {
    const silent = { ready: () => undefined, event: () => undefined, refused: () => undefined, away: () => undefined }
    const client = new EngineClient(socket, silent)
    client.start()
    return client
  })
  const keys = ends.map(
    (): EngineKeys => ({ algorithm: 'aes-gcm', icv: 16, encryption: key(), authentication: none() }),
  )
  for (const [index, { side }] of ends.entries()) {
    const [client, other] = [clients[index], ends[1 - index]?.side]
    const [own, theirs] = [keys[index], keys[1 - index]]
    if (client === undefined || other === undefined || own === undefined || theirs === undefined) continue
    const [here, there] = [requireIp(side.outer[4], 'outer'), requireIp(other.outer[4], 'outer')]
    const prefixes = [requireCidr(`${other.inner[4]}/32`, 'inner'), requireCidr(`${other.inner[6]}/128`, 'inner')]
    for (const request of [
      { op: 'setPeer', peer: 0, publicKey: publicKeyOf(randomBytes(32)), endpoint: undefined },
      { op: 'allow', peer: 0, prefixes },
      { op: 'setReceiving', peer: 0, spi: SPI, outer: { source: there, destination: here }, keys: copyOf(theirs) },
      {
        op: 'setSending',
        peer: 0,
        spi: SPI,
        encapsulation,
        port: 4500,
        outer: { source: here, destination: there },
        keys: copyOf(own),
      },
    ] as const) {
      const { status, text } = await client.ask(request, PATIENCE_MS)
      if (status !== 'done') throw new Error(`the engine refused ${request.op} (${status}): ${text}`)
    }
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close()
    },
  }
}

/** The engine's client overwrites what it has sent. */
function copyOf(keys: EngineKeys): EngineKeys {
  return { ...keys, encryption: keys.encryption.slice() }
}

/** 16 bytes and 4 of salt. */
function key(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(randomBytes(20))
}

function none(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(0)
}
