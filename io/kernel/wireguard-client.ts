import { Fault } from '#core/fault/fault.ts'
import { unwrap } from '#core/fault/result.ts'
import { decodeFamily, getFamily } from '#core/netlink/generic.ts'
import { changeWireguard, type WireguardChange } from '#core/netlink/wireguard-change.ts'
import { decodeWireguard, getWireguard, type SeenWireguard } from '#core/netlink/wireguard-device.ts'
import { WIREGUARD_FAMILY } from '#core/netlink/wireguard-words.ts'
import { NetlinkSocket } from './netlink-socket.ts'

/** The kernel's WireGuard devices of the network namespace that it was made in; synchronous. */
export class WireguardClient {
  readonly #socket = new NetlinkSocket({ protocol: 'generic' })
  /** The family's number: another one when the module was loaded anew, so it is asked again after "no such family". */
  #family: number | undefined

  /**
   * Undefined when there is no such link.
   * @throws Fault `kernel.wireguard.foreign` when the link is of another kind, `kernel.wireguard.missing`
   */
  read(name: string): SeenWireguard | undefined {
    try {
      return this.#asked((family) => {
        const answers = this.#socket.dump(`read WireGuard device ${name}`, getWireguard(family, name))
        const device = unwrap(decodeWireguard(answers))
        // it had the private key in it
        for (const { body } of answers) body.fill(0)
        return device
      })
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      if (error.code === 'kernel.enodev') return undefined
      if (error.code !== 'kernel.enotsup') throw error
      throw new Fault('kernel.wireguard.foreign', `${name} is no WireGuard device`, {
        field: `link/${name}`,
        remedy: `Something else made it: remove it (ip link del ${name}), or let it have another name`,
        cause: error,
      })
    }
  }

  /** In several messages when it is long: what came before a refused one is done. @throws Fault `kernel.*` */
  change(change: WireguardChange): void {
    this.#asked((family) => {
      const requests = changeWireguard(family, change)
      try {
        for (const request of requests) this.#socket.request(`change WireGuard device ${change.name}`, request)
      } finally {
        for (const { body } of requests) body.fill(0)
      }
    })
  }

  close(): void {
    this.#socket.close()
  }

  #asked<T>(ask: (family: number) => T): T {
    if (this.#family !== undefined) {
      try {
        return ask(this.#family)
      } catch (error) {
        if (!(error instanceof Fault) || error.code !== 'kernel.enoent') throw error
      }
    }
    this.#family = this.#findFamily()
    return ask(this.#family)
  }

  #findFamily(): number {
    let cause: unknown
    try {
      for (const answer of this.#socket.request('look for WireGuard in the kernel', getFamily(WIREGUARD_FAMILY))) {
        const family = unwrap(decodeFamily(answer))
        if (family !== undefined) return family.id
      }
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'kernel.enoent') throw error
      cause = error
    }
    throw new Fault('kernel.wireguard.missing', 'this kernel has no WireGuard', {
      remedy: 'Load the module wireguard (CONFIG_WIREGUARD, Linux 5.6), or use the userspace datapath',
      cause,
    })
  }
}
