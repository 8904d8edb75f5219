import { createHash, randomUUID } from 'node:crypto'
import type { IpsecAssociation, IpsecDevice, IpsecOpened, IpsecSettings, IpsecState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import type { Ip } from '#core/ip/address.ts'
import { AEADS } from '#core/ipsec/algorithm.ts'
import { wipeCrypto, xfrmAlgorithmName, xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import { ADDR_GEN_MODE_NONE, deleteLink, type Link, newLink, setLink } from '#core/netlink/link.ts'
import { kindName } from '#core/netlink/link-kind.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import type { XfrmEvent } from '#core/netlink/xfrm-event.ts'
import type { XfrmStateId } from '#core/netlink/xfrm-state.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { EncapSockets } from './encap-sockets.ts'
import { IpsecCaller } from './ipsec-caller.ts'
import { findLink, requireLink } from './link-table.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { ReceiveMarks } from './receive-marks.ts'
import { SpentKeys } from './spent-keys.ts'
import { type XfrmChange, XfrmClient } from './xfrm-client.ts'
import { type ActualState, diffXfrm, RECEIVE_MASK, wipeChanges, type XfrmActual } from './xfrm-diff.ts'
import { type WantedXfrmPeer, XfrmDerivation } from './xfrm-wanted.ts'

/** What stands before the boot id in the device's alias: not what every other link of ours has, whose plan would remove it. */
const ALIAS = 'pellicle ipsec '

/**
 * One device of IPsec by XFRM, in the network namespace that this was made in: an xfrm interface, to which states and
 * policies are tied by its id (docs/adr/0010-kernel-ipsec.md). What is routed into it leaves encrypted or not at all; what
 * its states decrypt comes out of it, if it came as a policy requires. Keeps nothing that the kernel and a file in /run do
 * not tell, so an agent may start anew at any time. Synchronous.
 */
export class KernelIpsec {
  readonly #name: string
  readonly #interfaceId: number
  readonly #links = new NetlinkSocket()
  readonly #xfrm: XfrmClient
  readonly #marks: ReceiveMarks
  readonly #spent: SpentKeys
  readonly #derivation = new XfrmDerivation()
  readonly #caller: IpsecCaller
  readonly #sockets = new EncapSockets()
  /** Of the last apply, by the peer's address. */
  #peers: ReadonlyMap<Ip, WantedXfrmPeer> = new Map()
  /** Peers from which something authentic has come, with the boot id of theirs under which it did. */
  readonly #heard = new Map<Ip, string>()

  /**
   * `stateFile`: in memory-backed storage that goes when the kernel does.
   * @throws Fault `kernel.*`
   */
  constructor(name: string, stateFile: string) {
    this.#name = name
    this.#interfaceId = interfaceIdOf(name)
    this.#spent = new SpentKeys(stateFile)
    this.#marks = new ReceiveMarks(name)
    this.#caller = new IpsecCaller(name)
    try {
      this.#xfrm = new XfrmClient()
    } catch (error) {
      this.#links.close()
      throw error
    }
  }

  open(settings: IpsecSettings): IpsecOpened {
    const link = this.#find()
    const there = this.#bootId(link)
    if (link !== undefined && there !== undefined) {
      this.#set(link, there, settings)
      return { bootId: there }
    }
    // states of another boot id, or of nobody knows which: nothing may be sent by them any more
    this.#empty()
    const bootId = randomUUID()
    this.#spent.begin(bootId)
    // what drops is there before there is a device that anything could be routed into
    this.#bringAbout(diffXfrm([], { states: [], policies: [] }, this.#options(0, 0)).receive)
    this.#set(link ?? this.#make(), bootId, settings)
    return { bootId }
  }

  /** As {@link import('#core/datapath/datapath.ts').Datapath.applyIpsec}. */
  apply(device: IpsecDevice): void {
    const link = this.#find()
    if (link === undefined || this.#bootId(link) !== device.bootId) throw this.#begunAnew()
    this.#set(link, device.bootId, device)
    const wanted = this.#derivation.wanted(device)
    const diff = this.#diff(wanted, device)
    const changes = [diff.receive, diff.send, diff.remove]
    try {
      if (wanted.some(({ encapsulation }) => encapsulation === 'udp')) this.#sockets.open(device.udpPort)
      this.#marks.set(diff.marksBefore, device.udpPort)
      this.#bringAbout(diff.receive)
      this.#spent.note(diff.used.map((fingerprint) => [fingerprint, 'used'] as const))
      this.#bringAbout(diff.send)
      this.#spent.note(diff.spent)
      this.#bringAbout(diff.remove)
      this.#marks.set(diff.marksAfter, device.udpPort)
    } finally {
      for (const part of changes) wipeChanges(part, wipeCrypto)
    }
    this.#peers = new Map(wanted.map((peer) => [peer.destination, peer]))
    this.#callOnUnheard(wanted, diff.marksAfter)
  }

  observe(): IpsecState | undefined {
    const link = this.#find()
    const bootId = link === undefined ? undefined : this.#bootId(link)
    if (bootId === undefined) return undefined
    const { states } = this.#actual()
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
    this.#caller.close()
    const link = this.#find()
    if (link !== undefined) this.#links.request(`remove IPsec device ${this.#name}`, deleteLink(link.index))
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
    this.#links.close()
    this.#marks.close()
    this.#sockets.close()
  }

  /** Something of the device's is another one now, or gone, and it was not this agent. */
  concerns(event: XfrmEvent): boolean {
    if (event.port === this.#xfrm.port) return false
    if (event.of === 'states' || event.of === 'policies') return true
    if (event.of === 'acquire') return false
    return event.value.interfaceId === this.#interfaceId
  }

  #diff(wanted: readonly WantedXfrmPeer[], { mark, udpPort }: IpsecDevice) {
    try {
      return diffXfrm(wanted, this.#actual(), this.#options(mark, udpPort))
    } catch (error) {
      if (error instanceof Fault && error.code === 'datapath.boot-id') this.#spent.forget()
      throw error
    }
  }

  #options(mark: number, udpPort: number) {
    const spent = (fingerprint: string) => this.#spent.get(fingerprint)
    return { interfaceId: this.#interfaceId, mark, udpPort, spent }
  }

  /** Done when the kernel has all of it. @throws Fault for the first that it refused; the others were made */
  #bringAbout(changes: readonly XfrmChange[]): void {
    if (changes.length === 0) return
    const faults = this.#xfrm.changeAll(changes)
    for (const [index, fault] of faults.entries()) {
      const change = changes[index]
      if (fault !== undefined && change !== undefined && !isGone(change, fault)) throw refusalOf(change, fault)
    }
  }

  /** All states and policies of the device; the keys are overwritten once they have a name. */
  #actual(): XfrmActual {
    const states = this.#xfrm
      .states()
      .filter(({ interfaceId }) => interfaceId === this.#interfaceId)
      .map(({ crypto, ...rest }): ActualState => {
        if (crypto === undefined) return { ...rest, fingerprint: undefined, algorithm: 'unknown' }
        const known = { fingerprint: xfrmFingerprint(crypto, ipsecHash), algorithm: xfrmAlgorithmName(crypto) }
        wipeCrypto(crypto)
        return { ...rest, ...known }
      })
    return { states, policies: this.#xfrm.policies().filter(({ interfaceId }) => interfaceId === this.#interfaceId) }
  }

  /** Nothing of the device's is left, what drops included. */
  #empty(): void {
    const { states, policies } = this.#actual()
    this.#bringAbout([
      ...states.map((state): XfrmChange => ({ do: 'delete state', state })),
      ...policies.map((policy): XfrmChange => ({ do: 'delete policy', policy })),
    ])
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
    const said = link?.alias?.startsWith(ALIAS) === true ? link.alias.slice(ALIAS.length) : undefined
    return said !== undefined && said === this.#spent.bootId ? said : undefined
  }

  /** @throws Fault `kernel.xfrm.foreign` when the name is somebody else's */
  #find(): Link | undefined {
    const link = findLink(this.#links, this.#name)
    if (link === undefined) return undefined
    if (link.kind.kind === 'xfrm' && link.kind.interfaceId === this.#interfaceId) return link
    const what = link.kind.kind === 'xfrm' ? 'an xfrm interface of another id' : `of kind ${kindName(link.kind)}`
    throw new Fault('kernel.xfrm.foreign', `${this.#name} is no IPsec device of the kernel's: it is ${what}`, {
      field: `link/${this.#name}`,
      remedy: `Something else made it (the userspace datapath makes a tun): remove it with \`ip link del ${this.#name}\``,
    })
  }

  #make(): Link {
    try {
      const interfaceId = this.#interfaceId
      this.#links.request(`make IPsec device ${this.#name}`, newLink({ name: this.#name, kind: 'xfrm', interfaceId }))
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'kernel.eexist') throw error
      throw new Fault('kernel.xfrm.foreign', `an xfrm interface of id 0x${this.#interfaceId.toString(16)} is there`, {
        field: `link/${this.#name}`,
        remedy: '`ip -d link show type xfrm` says which; two devices cannot share states and policies',
        cause: error,
      })
    }
    const { index } = requireLink(this.#links, this.#name)
    const [fault] = this.#links.batch([
      { what: `silence ${this.#name}`, request: setLink(index, { addrGenMode: ADDR_GEN_MODE_NONE }) },
    ])
    if (fault !== undefined && fault.code !== 'kernel.eafnosupport') throw fault
    return requireLink(this.#links, this.#name)
  }

  #set(link: Link, bootId: string, { mtu }: IpsecSettings): void {
    if (link.mtu !== mtu) this.#links.request(`set the MTU of ${this.#name}`, setLink(link.index, { mtu }))
    const alias = `${ALIAS}${bootId}`
    if (link.alias !== alias) this.#links.request(`name ${this.#name} ours`, setLink(link.index, { alias }))
  }

  #begunAnew(): Fault {
    return new Fault('datapath.boot-id', `${this.#name} has begun anew: its boot id is another one now`, {
      field: this.#name,
      remedy: 'Open it again and derive the keys from its new boot id.',
    })
  }
}

/** The same for the same name, never 0. */
function interfaceIdOf(name: string): number {
  return (createHash('sha256').update(`pellicle ${name}`).digest().readUInt32BE(0) & 0x7fffffff) | 1
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
