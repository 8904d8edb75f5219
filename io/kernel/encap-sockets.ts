import { Fault } from '#core/fault/fault.ts'
import { FAMILIES, type Family } from '#core/ip/address.ts'
import { UDP_ENCAP_ESPINUDP } from '#core/netlink/xfrm-state.ts'
import * as libc from '#io/sys/libc.ts'

const IPPROTO_UDP = 17
const UDP_ENCAP = 100
const EADDRINUSE = 98
const EAFNOSUPPORT = 97

/**
 * Sockets by which the kernel takes ESP out of UDP (RFC 3948), one of each family; what comes is XFRM's, and never read here.
 * Linux does so for as long as they are open: while the agent is away, what comes to that port is refused.
 */
export class EncapSockets {
  readonly #sockets = new Map<Family, number>()
  #port: number | undefined

  /** On every address of the calling thread's namespace; in place of those of another port. @throws Fault `datapath.port` */
  open(port: number): void {
    if (this.#port === port) return
    this.close()
    try {
      for (const family of FAMILIES) {
        const fd = openOne(family, port)
        if (fd !== undefined) this.#sockets.set(family, fd)
      }
      this.#port = port
    } catch (error) {
      this.close()
      throw error
    }
  }

  close(): void {
    for (const fd of this.#sockets.values()) libc.close(fd)
    this.#sockets.clear()
    this.#port = undefined
  }
}

/** Undefined: this kernel does not have that family. */
function openOne(family: Family, port: number): number | undefined {
  let fd: number
  try {
    fd = libc.socket(family === 4 ? libc.AF_INET : libc.AF_INET6, libc.SOCK_DGRAM | libc.SOCK_NONBLOCK, IPPROTO_UDP)
  } catch (error) {
    if (family === 6 && error instanceof libc.SystemError && error.errno === EAFNOSUPPORT) return undefined
    throw error
  }
  try {
    libc.setSocketInt(fd, IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
    // only what is no ESP comes up to here
    libc.setSocketInt(fd, libc.SOL_SOCKET, libc.SO_RCVBUF, 0)
    libc.bindPort(fd, family, port)
    return fd
  } catch (error) {
    libc.close(fd)
    if (!(error instanceof libc.SystemError)) throw error
    throw new Fault('datapath.port', `UDP port ${port} (IPv${family}) cannot be had for ESP: ${error.message}`, {
      field: `udp/${port}`,
      remedy:
        error.errno === EADDRINUSE
          ? `\`ss -lunp sport = :${port}\` says whose it is: an IKE daemon, or the userspace datapath. End that.`
          : 'Is ESP in this kernel (modules esp4, esp6), and is the agent privileged?',
      cause: error,
    })
  }
}
