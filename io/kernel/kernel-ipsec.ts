import { randomUUID } from 'node:crypto'
import type { IpsecAssociation, IpsecDevice, IpsecOpened, IpsecSettings, IpsecState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import { AEADS } from '#core/ipsec/algorithm.ts'
import { PairDerivation } from '#core/ipsec/pair-derivation.ts'
import { wipeCrypto, xfrmAlgorithmName, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import type { Link } from '#core/netlink/link.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import type { SeenXfrmState, XfrmStateId } from '#core/netlink/xfrm-state.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { EncapSockets } from './encap-sockets.ts'
import { IpsecCaller } from './ipsec-caller.ts'
import { ReceiveMarks } from './receive-marks.ts'
import { SpentKeys } from './spent-keys.ts'
import { type XfrmChange, XfrmClient } from './xfrm-client.ts'
import {
  type ActualState,
  diffXfrm,
  droppingPolicies,
  peerPolicies,
  RECEIVE_MASK,
  wipeChanges,
  type XfrmActual,
  type XfrmDiff,
} from './xfrm-diff.ts'
import { bootIdOf, XfrmInterface } from './xfrm-interface.ts'
import { type WantedXfrmPeer, XFRM_KEYS } from './xfrm-keys.ts'

/**
 * One device of IPsec by XFRM, in the network namespace that this was made in: an xfrm interface, to which states and
 * policies are tied by its id (docs/adr/0012-kernel-ipsec.md). What is routed into it leaves encrypted or not at all; what
 * its states decrypt comes out of it, if it came as a policy requires. Keeps nothing that the kernel and a file in /run do
 * not tell, so an agent may start anew at any time. Synchronous.
 */
export class KernelIpsec {
  readonly #name: string
  readonly #interfaceId: number
  readonly #link: XfrmInterface
  readonly #xfrm: XfrmClient
  readonly #marks: ReceiveMarks
  readonly #spent: SpentKeys
  readonly #derivation = new PairDerivation(XFRM_KEYS)
  readonly #caller: IpsecCaller
  readonly #sockets = new EncapSockets()
  /** Of the last apply, by the peer's address. */
  #peers = new Map<Ip, WantedXfrmPeer>()
  /** What it was asked for, as long as nobody else has changed what it brought about. */
  #kept: Kept | undefined
  /** Peers from which something authentic has come, with the boot id of theirs under which it did. */
  readonly #heard = new Map<Ip, string>()

  /**
   * `stateFile`: in memory-backed storage that goes when the kernel does.
   * @throws Fault `kernel.*`
   */
  constructor(name: string, stateFile: string) {
    this.#name = name
    this.#link = new XfrmInterface(name)
    this.#interfaceId = this.#link.id
    this.#spent = new SpentKeys(stateFile)
    this.#marks = new ReceiveMarks(name)
    this.#caller = new IpsecCaller(name)
    try {
      this.#xfrm = new XfrmClient()
    } catch (error) {
      this.#link.close()
      throw error
    }
  }

  /** The next apply looks at everything. */
  open(settings: IpsecSettings): IpsecOpened {
    this.#kept = undefined
    const link = this.#link.find()
    const there = this.#bootId(link)
    if (link !== undefined && there !== undefined) {
      this.#link.set(link, there, settings.mtu)
      return { bootId: there }
    }
    // states of another boot id, or of nobody knows which: nothing may be sent by them any more
    this.#empty()
    const bootId = randomUUID()
    this.#spent.begin(bootId)
    // what drops is there before there is a device that anything could be routed into
    const [refused] = this.#bringAbout(diffXfrm([], { states: [], policies: [] }, this.#options(0, 0)).receive)
    if (refused !== undefined) throw refused
    this.#link.set(link ?? this.#link.make(), bootId, settings.mtu)
    return { bootId }
  }

  /**
   * As {@link import('#core/datapath/datapath.ts').Datapath.applyIpsec}. Of peers that are the same object as the last time
   * nothing is looked at: whoever calls this listens to the kernel ({@link concerns}).
   */
  apply(device: IpsecDevice): void {
    const link = this.#link.find()
    if (link === undefined || this.#bootId(link) !== device.bootId) throw this.#begunAnew()
    this.#link.set(link, device.bootId, device.mtu)
    const part = partOf(this.#kept, device)
    this.#kept = undefined
    const wanted = this.#derivation.wanted(device, part?.changed)
    const before = part?.before.flatMap(({ destination }) => this.#peers.get(destination) ?? [])
    const others = part === undefined ? undefined : without(part.marks, before ?? [])
    const actual = part === undefined ? this.#actual() : this.#actualOf(before ?? [], part.marks)
    const diff = this.#diff(wanted, device, actual, others)
    try {
      if (device.peers.some(({ encapsulation }) => encapsulation === 'udp')) this.#sockets.open(device.udpPort)
      if (before === undefined) this.#peers = new Map()
      for (const { destination } of before ?? []) this.#peers.delete(destination)
      for (const peer of wanted) this.#peers.set(peer.destination, peer)
      this.#setMarks(part?.marks, diff.marksBefore, device)
      const faults = [...this.#bringAbout(diff.receive), ...this.#send(diff)]
      // a refusal for one peer stops no other; what is left to remove may be what it still needs
      const [first] = faults
      if (first !== undefined) throw first
      this.#spent.note(diff.spent)
      const [left] = this.#bringAbout(diff.remove)
      if (left !== undefined) throw left
      this.#setMarks(diff.marksBefore, diff.marksAfter, device)
    } finally {
      for (const changes of [diff.receive, diff.send, diff.remove]) wipeChanges(changes)
    }
    this.#kept = { device, marks: diff.marksAfter }
    this.#callOnUnheard([...this.#peers.values()], diff.marksAfter)
  }

  observe(): IpsecState | undefined {
    const link = this.#link.find()
    const bootId = link === undefined ? undefined : this.#bootId(link)
    if (bootId === undefined) return undefined
    // one without a key is what the kernel notes while it waits for an IKE daemon
    const states = this.#actual().states.filter(({ fingerprint }) => fingerprint !== undefined)
    const remotes = new Map<Ip, ActualState[]>([...this.#peers.keys()].map((ip) => [ip, []]))
    for (const state of states) {
      const remote = remoteOf(state)
      remotes.set(remote, [...(remotes.get(remote) ?? []), state])
    }
    return {
      name: this.#name,
      bootId,
      associations: states.map((state) => this.#associationOf(state)),
      peers: [...remotes].map(([destination, own]) => ({
        node: this.#peers.get(destination)?.node,
        destination,
        heard: this.#isHeard(destination, own),
        rxBytes: sum(own.filter(({ mark }) => mark !== undefined)),
        txBytes: sum(own.filter(({ mark }) => mark === undefined)),
      })),
    }
  }

  /** Only what is ours: a device of that name and another kind stays. */
  remove(): void {
    this.#kept = undefined
    this.#caller.close()
    this.#link.remove()
    this.#empty()
    this.#marks.remove()
    this.#sockets.close()
    this.#spent.forget()
    this.#peers = new Map()
    this.#heard.clear()
  }

  close(): void {
    this.#caller.close()
    this.#xfrm.close()
    this.#link.close()
    this.#marks.close()
    this.#sockets.close()
  }

  /** Something of the device's is another one now, or gone, and it was not this agent. */
  concerns(event: XfrmEvent): boolean {
    if (event.port === this.#xfrm.port || event.of === 'acquire') return false
    const all = event.of === 'states' || event.of === 'policies'
    if (!all && event.value.interfaceId !== this.#interfaceId) return false
    this.#kept = undefined
    return true
  }

  #diff(
    wanted: readonly WantedXfrmPeer[],
    { mark, udpPort }: IpsecDevice,
    actual: XfrmActual,
    others: ReadonlyMap<Ip, number> | undefined,
  ) {
    const options = { ...this.#options(mark, udpPort), ...(others === undefined ? {} : { others }) }
    try {
      return diffXfrm(wanted, actual, options)
    } catch (error) {
      if (error instanceof Fault && error.code === 'datapath.boot-id') this.#spent.forget()
      throw error
    }
  }

  #options(mark: number, udpPort: number) {
    const spent = (fingerprint: string) => this.#spent.get(fingerprint)
    return { interfaceId: this.#interfaceId, mark, udpPort, spent }
  }

  /** What the kernel refused; it has the others. */
  #bringAbout(changes: readonly XfrmChange[], refused: (change: XfrmChange) => void = () => undefined): Fault[] {
    if (changes.length === 0) return []
    return this.#xfrm.changeAll(changes).flatMap((fault, index) => {
      const change = changes[index]
      if (fault === undefined || change === undefined || isGone(change, fault)) return []
      refused(change)
      return [refusalOf(change, fault)]
    })
  }

  /** What is to be sent by is noted before; nothing was sent by what was refused. */
  #send({ used, send }: XfrmDiff): Fault[] {
    this.#spent.note(used.map((fingerprint) => [fingerprint, 'used'] as const))
    return this.#bringAbout(send, (change) => {
      if (change.do !== 'add state') return
      this.#spent.note([[xfrmFingerprint(change.state.crypto, ipsecHash), change.state.replay.sent]])
    })
  }

  #setMarks(before: ReadonlyMap<Ip, number> | undefined, after: ReadonlyMap<Ip, number>, device: IpsecDevice): void {
    const same = before?.size === after.size && [...after].every(([ip, mark]) => before.get(ip) === mark)
    if (!same) this.#marks.set(after, device.udpPort)
  }

  /** All states and policies of the device. */
  #actual(): XfrmActual {
    const states = this.#xfrm.states().filter(({ interfaceId }) => interfaceId === this.#interfaceId)
    const policies = this.#xfrm.policies().filter(({ interfaceId }) => interfaceId === this.#interfaceId)
    return { states: states.map(named), policies }
  }

  /** Of those peers; that their policies and what drops are as they were made was listened to. */
  #actualOf(peers: readonly WantedXfrmPeer[], marks: ReadonlyMap<Ip, number>): XfrmActual {
    const states = peers.flatMap(({ source, destination, receive, send }) => {
      const mark = { value: marks.get(destination) ?? 0, mask: RECEIVE_MASK }
      const common = { protocol: IPPROTO_ESP }
      const ids = [
        ...receive.map(({ spi }) => ({ ...common, source: destination, destination: source, spi, mark })),
        ...(send === undefined ? [] : [{ ...common, source, destination, spi: send.spi }]),
      ]
      return ids.flatMap((id) => this.#xfrm.state(id) ?? [])
    })
    const policies = peers.flatMap((peer) => peerPolicies(peer, this.#interfaceId))
    return { states: states.map(named), policies: [...droppingPolicies(this.#interfaceId), ...policies] }
  }

  /** Nothing of the device's is left, what drops included. */
  #empty(): void {
    const { states, policies } = this.#actual()
    const [left] = this.#bringAbout([
      ...states.map((state): XfrmChange => ({ do: 'delete state', state })),
      ...policies.map((policy): XfrmChange => ({ do: 'delete policy', policy })),
    ])
    if (left !== undefined) throw left
  }

  #isHeard(destination: Ip, states: readonly ActualState[]): boolean {
    const bootId = this.#peers.get(destination)?.bootId ?? ''
    const heard = this.#heard.get(destination) === bootId
    if (heard || !states.some(({ mark, packets }) => mark !== undefined && packets > 0n)) return heard
    this.#heard.set(destination, bootId)
    return true
  }

  #callOnUnheard(peers: readonly WantedXfrmPeer[], marks: ReadonlyMap<Ip, number>): void {
    const unheard = peers
      .filter(({ destination, bootId, send }) => send !== undefined && this.#heard.get(destination) !== bootId)
      .map(({ source: own, destination: theirs, bootId, allowedIps, receive }) => ({
        allowedIps,
        heard: () => {
          const mark = { value: marks.get(theirs) ?? 0, mask: RECEIVE_MASK }
          const id = { source: theirs, destination: own, protocol: IPPROTO_ESP, mark }
          if (!receive.some(({ spi }) => this.#carried({ ...id, spi }))) return false
          this.#heard.set(theirs, bootId)
          return true
        },
      }))
    this.#caller.call(unheard)
  }

  /** Whether something has come by that state. */
  #carried(id: XfrmStateId & { readonly source: Ip }): boolean {
    const state = this.#xfrm.state(id)
    if (state?.crypto !== undefined) wipeCrypto(state.crypto)
    return state !== undefined && state.packets > 0n
  }

  #associationOf(state: ActualState): IpsecAssociation {
    const { source, destination, spi, algorithm, fingerprint, replay, packets, bytes } = state
    const peer = this.#peers.get(remoteOf(state))
    const direction = state.mark === undefined ? 'out' : 'in'
    return {
      direction,
      node: peer?.node,
      spi,
      source,
      destination,
      encapsulation: state.encapsulation === undefined ? 'none' : 'udp',
      algorithm,
      fingerprint: fingerprint ?? '',
      sequence: direction === 'in' ? replay.received : replay.sent,
      packets,
      bytes,
    }
  }

  /** The device's boot id, if all that was sent under it is known. */
  #bootId(link: Link | undefined): string | undefined {
    const said = link === undefined ? undefined : bootIdOf(link)
    return said !== undefined && said === this.#spent.bootId ? said : undefined
  }

  #begunAnew(): Fault {
    return new Fault('datapath.boot-id', `${this.#name} has begun anew: its boot id is another one now`, {
      field: this.#name,
      remedy: 'Open it again and derive the keys from its new boot id.',
    })
  }
}

interface Kept {
  readonly device: IpsecDevice
  readonly marks: ReadonlyMap<Ip, number>
}

/** What is another one than the last time; undefined: everything may be. */
function partOf(kept: Kept | undefined, device: IpsecDevice) {
  if (kept === undefined || kept.device.mark !== device.mark || kept.device.udpPort !== device.udpPort) return undefined
  const then = new Set(kept.device.peers)
  const now = new Set(device.peers)
  return {
    marks: kept.marks,
    changed: device.peers.filter((peer) => !then.has(peer)),
    before: kept.device.peers.filter((peer) => !now.has(peer)),
  }
}

function without(marks: ReadonlyMap<Ip, number>, peers: readonly WantedXfrmPeer[]): ReadonlyMap<Ip, number> {
  const rest = new Map(marks)
  for (const { destination } of peers) rest.delete(destination)
  return rest
}

/** The key is overwritten once it has a name. */
function named({ crypto, ...rest }: SeenXfrmState): ActualState {
  if (crypto === undefined) return { ...rest, fingerprint: undefined, algorithm: 'unknown' }
  const known = { fingerprint: xfrmFingerprint(crypto, ipsecHash), algorithm: xfrmAlgorithmName(crypto) }
  wipeCrypto(crypto)
  return { ...rest, ...known }
}

function remoteOf({ mark, source, destination }: ActualState): Ip {
  return mark === undefined ? destination : source
}

function sum(states: readonly ActualState[]): bigint {
  return states.reduce((total, { bytes }) => total + bytes, 0n)
}

/** What is to go is gone. */
function isGone({ do: what }: XfrmChange, { code }: Fault): boolean {
  return what.startsWith('delete') && (code === 'kernel.esrch' || code === 'kernel.enoent')
}

function refusalOf(change: XfrmChange, fault: Fault): Fault {
  if (!('state' in change) || !('crypto' in change.state)) return fault
  const { spi, destination, crypto } = change.state
  const field = `state/${destination}/${spi}`
  if (fault.code === 'kernel.eexist') {
    return new Fault('datapath.foreign', `somebody else has a state for ${destination} with SPI ${spi}`, {
      field,
      remedy: 'Nothing of it was touched. `ip xfrm state` shows it: end what made it, or remove it.',
      cause: fault,
    })
  }
  if (fault.code !== 'kernel.enosys' && fault.code !== 'kernel.enoent') return fault
  return new Fault('datapath.algorithm', `this kernel has no ${xfrmAlgorithmName(crypto)}`, {
    field,
    remedy: `Load its module, or rotate to another one, such as ${Object.keys(AEADS).join(', ')}.`,
    cause: fault,
  })
}
