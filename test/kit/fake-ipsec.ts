import { createHash, randomUUID } from 'node:crypto'
import type { IpsecAssociation, IpsecDevice, IpsecOpened, IpsecSettings, IpsecState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KeyRef } from '#core/ipsec/key.ts'

const ALGORITHMS = ['rfc4106(gcm(aes))', 'rfc7539esp(chacha20,poly1305)', 'cbc(aes)']

/** One device of IPsec in memory, with the engine's rules: what is the same stays, another boot id begins anew. */
export class FakeIpsecDevice {
  readonly bootId: string = randomUUID()
  settings: IpsecSettings
  /** What was done, in order: `+in NODE ID`, `+out NODE ID`, `-in NODE ID` … */
  readonly steps: string[] = []
  /** Names of nodes that something authenticated has come from. */
  readonly heard = new Set<string>()
  #wanted: IpsecDevice | undefined
  #associations = new Map<string, IpsecAssociation>()

  constructor(settings: IpsecSettings) {
    this.settings = settings
  }

  get opened(): IpsecOpened {
    return { bootId: this.bootId }
  }

  get wanted(): IpsecDevice | undefined {
    return this.#wanted
  }

  apply(device: IpsecDevice): void {
    if (device.bootId !== this.bootId) {
      throw new Fault('datapath.boot-id', `${device.name} has another boot id now`, { field: device.name })
    }
    const next = associationsOf(device)
    for (const peer of this.#wanted?.peers ?? []) {
      const now = device.peers.find(({ node }) => node === peer.node)
      if (now?.bootId !== peer.bootId) this.heard.delete(peer.node)
    }
    const added = (direction: string) =>
      [...next].filter(([id, one]) => one.direction === direction && !this.#associations.has(id))
    for (const [id, one] of [...added('in'), ...added('out')]) {
      this.#associations.set(id, one)
      this.steps.push(`+${one.direction} ${one.node} ${one.spi}`)
    }
    for (const [id, one] of this.#associations) {
      if (next.has(id)) continue
      this.#associations.delete(id)
      this.steps.push(`-${one.direction} ${one.node} ${one.spi}`)
    }
    const { keys: _, ...rest } = device
    this.#wanted = structuredClone({ ...rest, keys: [] })
  }

  state(): IpsecState {
    return {
      name: this.settings.name,
      bootId: this.bootId,
      associations: [...this.#associations.values()],
      peers: (this.#wanted?.peers ?? []).map(({ node, destination }) => ({
        node,
        destination,
        heard: this.heard.has(node),
        rxBytes: 0n,
        txBytes: 0n,
      })),
    }
  }
}

function associationsOf({ bootId, peers, keys }: IpsecDevice): Map<string, IpsecAssociation> {
  const all = new Map<string, IpsecAssociation>()
  for (const { node, bootId: theirs, source, destination, encapsulation, receive, send } of peers) {
    const put = (direction: 'in' | 'out', ref: KeyRef) => {
      const key = keys.find(({ id, fingerprint }) => id === ref.id && fingerprint === ref.fingerprint)
      if (key === undefined)
        throw new Fault('datapath.key', `node ${node} refers to a key with id ${ref.id} that is not there`)
      if (!ALGORITHMS.includes(key.encryptionAlgorithm)) {
        const remedy = `Use one of ${ALGORITHMS.join(', ')}.`
        throw new Fault('datapath.algorithm', `${key.encryptionAlgorithm} is not supported`, { remedy })
      }
      const ends = direction === 'out' ? [source, destination, bootId, theirs] : [destination, source, theirs, bootId]
      const fingerprint = createHash('sha256')
        .update(`${ref.fingerprint} ${ends.join(' ')}`)
        .digest('hex')
        .slice(0, 16)
      all.set(`${direction} ${ref.id} ${fingerprint}`, {
        direction,
        node,
        spi: ref.id,
        source: direction === 'out' ? source : destination,
        destination: direction === 'out' ? destination : source,
        encapsulation,
        algorithm: key.encryptionAlgorithm,
        fingerprint,
        sequence: 0n,
        packets: 0n,
        bytes: 0n,
      })
    }
    for (const ref of receive) put('in', ref)
    if (send !== undefined) put('out', send)
  }
  return all
}
