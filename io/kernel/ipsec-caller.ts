import { FAMILY_BITS, type Family, type Ip, ipToBytes } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, lengthOf, networkOf } from '#core/ip/cidr.ts'
import * as libc from '#io/sys/libc.ts'

const IPPROTO_ICMP = 1
const IPPROTO_ICMPV6 = 58
const CALL_MS = 1000
/** Level, option (ICMP_FILTER, ICMPV6_FILTER) and bits of types that are not wanted. */
const REFUSE_ALL = {
  4: [255, 1, new Uint8Array(4).fill(255)],
  6: [IPPROTO_ICMPV6, 1, new Uint8Array(32).fill(255)],
} as const
/** Of a cluster that was switched on as a whole: the others are called in the rounds that follow. */
const MOST_AT_ONCE = 200
/** A node that has not answered for a minute is called less often. */
const OFTEN = 60
const SELDOM = 10

/** Whom nothing authentic has come from yet. */
export interface Unheard {
  readonly allowedIps: readonly Cidr[]
  /** Whether something has come meanwhile. */
  heard(): boolean
}

/**
 * Calls on peers that were not heard yet, each second: an echo request out of the device to the peer's own address, whose
 * answer comes back encrypted. (The engine, which sends nothing until it has heard a peer, takes any packet for a word; its
 * own word, a dummy packet as of RFC 4303 2.6, Linux does not tell from a damaged one.)
 */
export class IpsecCaller {
  readonly #device: string
  readonly #sockets = new Map<Family, number>()
  #unheard: Unheard[] = []
  #rounds = 0
  #timer: NodeJS.Timeout | undefined

  constructor(device: string) {
    this.#device = device
  }

  /** In place of those before. The first call is at once. */
  call(unheard: readonly Unheard[]): void {
    this.#unheard = [...unheard]
    this.#rounds = 0
    this.#round()
    if (this.#unheard.length > 0) this.#timer ??= setInterval(() => this.#round(), CALL_MS).unref()
  }

  close(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#unheard = []
    for (const fd of this.#sockets.values()) libc.close(fd)
    this.#sockets.clear()
  }

  #round(): void {
    this.#rounds++
    if (this.#rounds > OFTEN && this.#rounds % SELDOM !== 0) return
    const turn = this.#unheard.splice(0, MOST_AT_ONCE).filter((peer) => !peer.heard())
    this.#unheard.push(...turn)
    for (const { allowedIps } of turn) {
      const own = allowedIps.find((cidr) => lengthOf(cidr) === FAMILY_BITS[cidrFamily(cidr)])
      if (own !== undefined) this.#send(networkOf(own), cidrFamily(own))
    }
    if (this.#unheard.length > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #send(to: Ip, family: Family): void {
    try {
      libc.sendToIp(this.#socket(family), echoRequest(family), ipToBytes(to))
    } catch (error) {
      // it is down, has no address or no state yet, or a firewall is in the way: the next call is in a second
      if (!(error instanceof libc.SystemError)) throw error
    }
  }

  #socket(family: Family): number {
    const there = this.#sockets.get(family)
    if (there !== undefined) return there
    const [domain, protocol] = family === 4 ? [libc.AF_INET, IPPROTO_ICMP] : [libc.AF_INET6, IPPROTO_ICMPV6]
    const fd = libc.socket(domain, libc.SOCK_RAW | libc.SOCK_NONBLOCK, protocol)
    try {
      libc.bindToDevice(fd, this.#device)
      // answers are not read here, and what a policy refuses is counted for each socket that it would come to
      const [level, option, types] = REFUSE_ALL[family]
      libc.setSocketBytes(fd, level, option, types)
    } catch (error) {
      libc.close(fd)
      throw error
    }
    this.#sockets.set(family, fd)
    return fd
  }
}

/** Without data; the kernel computes ICMPv6's sum. */
function echoRequest(family: Family): Uint8Array {
  return family === 4 ? Uint8Array.of(8, 0, 0xf7, 0xff, 0, 0, 0, 0) : Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0)
}
