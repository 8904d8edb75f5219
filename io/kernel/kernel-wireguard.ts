import { randomBytes } from 'node:crypto'
import type { WireguardDevice, WireguardState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { OUR_LINK_ALIAS } from '#core/host/host-actual.ts'
import { ADDR_GEN_MODE_NONE, deleteLink, type Link, newLink, setLink } from '#core/netlink/link.ts'
import { kindName } from '#core/netlink/link-kind.ts'
import type { SocketAddress } from '#core/netlink/socket-address.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { findLink, requireLink } from './link-table.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { WireguardClient } from './wireguard-client.ts'
import { diffWireguard } from './wireguard-diff.ts'

/**
 * WireGuard devices of the kernel, in the network namespace that this was made in. Keeps nothing that could not be asked
 * again but which endpoint each peer was told, so an agent may start anew at any time. Synchronous.
 */
export class KernelWireguard {
  readonly #links = new NetlinkSocket()
  readonly #client = new WireguardClient()
  readonly #endpoints = new Map<string, ReadonlyMap<PublicKey, SocketAddress>>()

  /** As {@link import('#core/datapath/datapath.ts').Datapath.apply}. */
  apply(device: WireguardDevice): void {
    const { name } = device
    const link = this.#find(name) ?? this.#make(name)
    if (link.mtu !== device.mtu) this.#links.request(`set the MTU of ${name}`, setLink(link.index, { mtu: device.mtu }))
    if (!link.up) this.#links.request(`set ${name} up`, setLink(link.index, { up: true }))
    const actual = this.#client.read(name)
    if (actual === undefined)
      throw new Fault('kernel.enodev', `${name} was removed while it was set up`, { field: `link/${name}` })
    const change = diffWireguard(device, actual, {
      publicKey: publicKeyOf(wireguardCrypto.importKey(device.privateKey).publicKey),
      nobody: publicKeyOf(randomBytes(32)),
      endpoints: this.#endpoints.get(name) ?? new Map(),
    })
    if (change !== undefined) this.#client.change(change)
    this.#endpoints.set(name, new Map(device.peers.map(({ publicKey, endpoint }) => [publicKey, endpoint])))
  }

  observe(name: string): WireguardState | undefined {
    if (this.#find(name) === undefined) return undefined
    const seen = this.#client.read(name)
    if (seen?.publicKey === undefined) return undefined
    const { publicKey, listenPort } = seen
    const peers = seen.peers.map((peer) => ({
      publicKey: peer.publicKey,
      endpoint: peer.endpoint,
      allowedIps: peer.allowedIps,
      lastHandshake: peer.lastHandshake,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
    }))
    return { name, publicKey, listenPort, peers }
  }

  /** Only a device of WireGuard: another of that name is somebody else's. */
  remove(name: string): void {
    this.#endpoints.delete(name)
    const link = this.#find(name)
    if (link !== undefined) this.#links.request(`remove WireGuard device ${name}`, deleteLink(link.index))
  }

  /** The kernel's word for what has that name; undefined: nothing. */
  kindOf(name: string): string | undefined {
    const link = findLink(this.#links, name)
    return link === undefined ? undefined : kindName(link.kind)
  }

  close(): void {
    this.#client.close()
    this.#links.close()
  }

  /** @throws Fault `kernel.wireguard.foreign` when there is a link of that name and another kind */
  #find(name: string): Link | undefined {
    const link = findLink(this.#links, name)
    if (link === undefined || link.kind.kind === 'wireguard') return link
    throw new Fault('kernel.wireguard.foreign', `${name} is no WireGuard device: its kind is ${kindName(link.kind)}`, {
      field: `link/${name}`,
      remedy: `Something else made it: remove it (ip link del ${name}), or let it have another name`,
    })
  }

  #make(name: string): Link {
    this.#links.request(`make WireGuard device ${name}`, newLink({ name, kind: 'wireguard' }))
    const { index } = requireLink(this.#links, name)
    // silent before up; a kernel without IPv6 has nothing to silence
    this.#links.request(`name ${name} ours`, setLink(index, { alias: OUR_LINK_ALIAS }))
    const [fault] = this.#links.batch([
      { what: `silence ${name}`, request: setLink(index, { addrGenMode: ADDR_GEN_MODE_NONE }) },
    ])
    if (fault !== undefined && fault.code !== 'kernel.eafnosupport') throw fault
    return requireLink(this.#links, name)
  }
}
