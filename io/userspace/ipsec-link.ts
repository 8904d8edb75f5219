import { createHash } from 'node:crypto'
import type { IpsecAssociation, IpsecDevice, IpsecOpened, IpsecState } from '#core/datapath/datapath.ts'
import type { DumpedAssociation } from '#core/engine/association.ts'
import type { EngineRequest } from '#core/engine/request.ts'
import { Fault } from '#core/fault/fault.ts'
import { PairDerivation } from '#core/ipsec/pair-derivation.ts'
import { linuxAlgorithm } from '#core/ipsec/userspace.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { EngineClient, type EngineHello, type EngineState } from '#io/engine/engine-client.ts'
import { diffIpsec, type WantedPeer } from './ipsec-diff.ts'
import { ENGINE_KEYS } from './ipsec-keys.ts'

/** Between two dummy packets to a peer that has not been heard. */
const KEEPALIVE_MS = 1000
/** The answer to the first packet of a peer may be lost: it is told so often again that it was heard. */
const AFTER_HEARD = 3

/** A keeper that is replaced by a roll-out hands its memory over, so that alone does not help. */
const FULL =
  'The agent has it begin anew by itself. Where this stays, the keeper is of an earlier release: kubectl -n kube-system delete pod of DaemonSet pellicle-keeper on this node (rollout restart keeps what is full); the node then has a new boot id.'

/**
 * One device of IPsec in the engine: compares what is wanted with what the engine has and asks for the difference. The
 * connection stays, so that a peer's first packet is known and peers that were not heard are called on.
 */
export class IpsecLink {
  readonly #name: string
  readonly #engine: EngineClient
  readonly #timeoutMs: number
  readonly #changed: () => void
  readonly #timer: NodeJS.Timeout
  readonly #derivation = new PairDerivation(ENGINE_KEYS)
  /** By identity of the slot: whom the last apply was about. */
  #names = new Map<PublicKey, WantedPeer>()
  /** Slots, with how often each is still to be called. */
  readonly #calling = new Map<number, number>()
  #instance: string | undefined
  #applying: Promise<void> = Promise.resolve()

  /** `changed`: the engine was started again, so that what it has may not be what was applied. */
  constructor(name: string, socketPath: string, timeoutMs: number, changed: () => void) {
    this.#name = name
    this.#timeoutMs = timeoutMs
    this.#changed = changed
    this.#engine = new EngineClient(socketPath, {
      ready: (hello, state) => this.#ready(hello, state),
      event: (event) => {
        if (event.type === 'heard') this.#calling.set(event.peer, AFTER_HEARD)
      },
      // a peer may have gone, or have no association to send by yet
      refused: () => undefined,
      away: () => undefined,
    })
    this.#timer = setInterval(() => this.#call(), KEEPALIVE_MS).unref()
    this.#engine.start()
  }

  async open(): Promise<IpsecOpened> {
    return { bootId: bootIdOf(await this.#hello()) }
  }

  /** One after the other. Rejects with Fault `datapath.*`. */
  apply(device: IpsecDevice): Promise<void> {
    const step = this.#applying.then(() => this.#apply(device))
    this.#applying = step.catch(() => undefined)
    return step
  }

  async state(): Promise<IpsecState> {
    const bootId = bootIdOf(await this.#hello())
    const { peers, associations } = await this.#engine.dump(this.#timeoutMs)
    const known = new Map(peers.map(({ peer, publicKey }) => [peer, this.#names.get(publicKey)]))
    return {
      name: this.#name,
      bootId,
      associations: associations.map((one) => associationOf(one, known.get(one.peer))),
      peers: peers.map(({ peer, activity }) => ({
        node: known.get(peer)?.node,
        destination: known.get(peer)?.destination,
        heard: activity.lastAuthenticated > 0,
        rxBytes: activity.rxBytes,
        txBytes: activity.txBytes,
      })),
    }
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return this.#engine.counters(this.#timeoutMs)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#engine.close()
  }

  async #apply(device: IpsecDevice): Promise<void> {
    const hello = await this.#hello()
    if (bootIdOf(hello) !== device.bootId) {
      throw new Fault('datapath.boot-id', `${device.name} has begun anew: its boot id is another one now`, {
        field: device.name,
        remedy: 'Open it again and derive the keys from its new boot id.',
      })
    }
    const wanted = this.#derivation
      .wanted(device)
      .map((peer): WantedPeer => ({ ...peer, identity: identityOf(device.bootId, peer) }))
    const state = await this.#engine.dump(this.#timeoutMs)
    this.#still(hello)
    const change = diffIpsec(wanted, state, { maxPeers: hello.maxPeers, udpPort: device.udpPort })
    const refused = new Map<number | undefined, Fault>()
    for (const requests of [change.makeRoom, change.receive, change.send, change.remove]) {
      this.#still(hello)
      await this.#askAll(requests, refused, wanted, change.slots)
    }
    this.#names = new Map(wanted.map((peer) => [peer.identity, peer]))
    const heard = new Set(
      state.peers.filter(({ activity }) => activity.lastAuthenticated > 0).map(({ publicKey }) => publicKey),
    )
    const used = new Set(change.slots.values())
    for (const slot of this.#calling.keys()) if (!used.has(slot)) this.#calling.delete(slot)
    for (const { node, identity } of wanted) {
      const slot = change.slots.get(node)
      if (slot !== undefined && !heard.has(identity) && !this.#calling.has(slot)) {
        this.#calling.set(slot, Number.POSITIVE_INFINITY)
      }
    }
    for (const fault of refused.values()) throw fault
  }

  /**
   * The memory that keeps the numbers of every key that was ever used has little room left. Where along its last quarter
   * is the instance's: nodes that were made together do not all come to it together.
   */
  async isWornOut(): Promise<boolean> {
    const { hello } = this.#engine
    // asked after each change of keys: where it is away there is nothing to find out
    const { usedKeys, usedKeysRoom } = await this.counters().catch((): Readonly<Record<string, number>> => ({}))
    // an engine of an earlier release does not say
    if (hello === undefined || usedKeys === undefined || usedKeysRoom === undefined) return false
    const share = 0.75 + Number.parseInt(hello.instance.slice(0, 2), 16) / 2048
    return usedKeys >= usedKeysRoom * share
  }

  /**
   * Keys that were derived under one boot id must not come into a memory of another one: its numbers begin again at 1, and
   * they may all have been used.
   */
  #still(before: EngineHello): void {
    const now = this.#engine.hello
    if (now === undefined || bootIdOf(now) !== bootIdOf(before)) throw this.#away(undefined)
  }

  /**
   * Nothing more is asked for the slot of what was refused, and so nothing taken away there that the refused one was to
   * replace. Others' go on.
   */
  async #askAll(
    requests: readonly EngineRequest[],
    refused: Map<number | undefined, Fault>,
    wanted: readonly WantedPeer[],
    slots: ReadonlyMap<string, number>,
  ): Promise<void> {
    const asked = requests.filter((request) => !refused.has(slotOf(request)))
    const answers = await Promise.all(asked.map((request) => this.#engine.ask(request, this.#timeoutMs)))
    for (const [index, { status, text }] of answers.entries()) {
      const request = asked[index]
      // what is to go is gone
      if (status === 'done' || request === undefined) continue
      if (status === 'absent' && (request.op === 'removeAssociation' || request.op === 'removePeer')) continue
      const slot = slotOf(request)
      if (refused.has(slot)) continue
      const node = wanted.find((peer) => slots.get(peer.node) === slot)?.node
      const about = node === undefined ? '' : ` for node ${node}`
      const why = text === '' ? status : `${status}: ${text}`
      const fault = new Fault(`datapath.${status}`, `the engine refused ${request.op}${about} (${why})`, {
        field: this.#name,
        remedy:
          status === 'full'
            ? FULL
            : 'Agent and engine must be of one release; the log of DaemonSet pellicle-keeper may say more.',
      })
      refused.set(slot, fault)
    }
  }

  async #hello(): Promise<EngineHello> {
    try {
      await this.#engine.barrier(this.#timeoutMs)
      const { hello } = this.#engine
      if (hello !== undefined) return hello
    } catch (error) {
      throw this.#away(error)
    }
    throw this.#away(undefined)
  }

  #away(cause: unknown): Fault {
    return new Fault('datapath.engine.away', `the engine of ${this.#name} does not answer`, {
      field: this.#name,
      remedy: 'The supervisor starts it again by itself; its log is that of DaemonSet pellicle-keeper.',
      cause,
    })
  }

  #ready({ instance }: EngineHello, state: EngineState): void {
    const again = this.#instance !== undefined
    this.#instance = instance
    this.#calling.clear()
    for (const { peer, activity } of state.peers) {
      if (activity.lastAuthenticated === 0) this.#calling.set(peer, Number.POSITIVE_INFINITY)
    }
    if (again) this.#changed()
  }

  #call(): void {
    for (const [peer, left] of this.#calling) {
      this.#engine.request({ op: 'keepalive', peer })
      if (left <= 1) this.#calling.delete(peer)
      else this.#calling.set(peer, left - 1)
    }
  }
}

function slotOf(request: EngineRequest): number | undefined {
  return 'peer' in request ? request.peer : undefined
}

/** `8-4-4-4-12`, as Linux writes boot ids. */
function bootIdOf({ instance }: EngineHello): string {
  return instance.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** docs/protocol/engine.md: what a slot is for. */
function identityOf(own: string, { bootId, node }: { readonly bootId: string; readonly node: string }): PublicKey {
  return publicKeyOf(new Uint8Array(createHash('sha256').update(`${own}|${bootId}|${node}`).digest()))
}

/** The engine takes what comes to it either way: how a peer sends is known from what was asked for. */
function associationOf(one: DumpedAssociation, peer: WantedPeer | undefined): IpsecAssociation {
  const { direction, spi, outer, algorithm, fingerprint, sequence, packets, bytes } = one
  return {
    direction,
    node: peer?.node,
    spi,
    ...outer,
    encapsulation: direction === 'in' ? (peer?.encapsulation ?? one.encapsulation) : one.encapsulation,
    algorithm: linuxAlgorithm(algorithm),
    fingerprint,
    sequence,
    packets,
    bytes,
  }
}
