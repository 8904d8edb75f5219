import { createHash } from 'node:crypto'
import { Fault } from '#core/fault/fault.ts'
import { ADDR_GEN_MODE_NONE, deleteLink, type Link, newLink, setLink } from '#core/netlink/link.ts'
import { kindName } from '#core/netlink/link-kind.ts'
import { findLink, requireLink } from './link-table.ts'
import { NetlinkSocket } from './netlink-socket.ts'

/** What stands before the boot id in the device's alias: not what every other link of ours has, whose plan would remove it. */
const ALIAS = 'pellicle ipsec '

/** The link of a device of IPsec, in the network namespace that this was made in. */
export class XfrmInterface {
  /** Of its states and policies: the same for the same name, never 0. */
  readonly id: number
  readonly #name: string
  readonly #socket = new NetlinkSocket()

  constructor(name: string) {
    this.#name = name
    this.id = (createHash('sha256').update(`pellicle ${name}`).digest().readUInt32BE(0) & 0x7fffffff) | 1
  }

  /** @throws Fault `kernel.xfrm.foreign` when the name is somebody else's */
  find(): Link | undefined {
    const link = findLink(this.#socket, this.#name)
    if (link === undefined) return undefined
    if (link.kind.kind === 'xfrm' && link.kind.interfaceId === this.id) return link
    const what = link.kind.kind === 'xfrm' ? 'an xfrm interface of another id' : `of kind ${kindName(link.kind)}`
    throw new Fault('kernel.xfrm.foreign', `${this.#name} is no IPsec device of the kernel's: it is ${what}`, {
      field: `link/${this.#name}`,
      remedy: `Something else made it (the userspace datapath makes a tun): remove it with \`ip link del ${this.#name}\``,
    })
  }

  /** Down. @throws Fault `kernel.xfrm.foreign` when another device has that id */
  make(): Link {
    try {
      const interfaceId = this.id
      this.#socket.request(`make IPsec device ${this.#name}`, newLink({ name: this.#name, kind: 'xfrm', interfaceId }))
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== 'kernel.eexist') throw error
      throw new Fault('kernel.xfrm.foreign', `an xfrm interface of id 0x${this.id.toString(16)} is there`, {
        field: `link/${this.#name}`,
        remedy: '`ip -d link show type xfrm` says which; two devices cannot share states and policies',
        cause: error,
      })
    }
    const { index } = requireLink(this.#socket, this.#name)
    const [fault] = this.#socket.batch([
      { what: `silence ${this.#name}`, request: setLink(index, { addrGenMode: ADDR_GEN_MODE_NONE }) },
    ])
    if (fault !== undefined && fault.code !== 'kernel.eafnosupport') throw fault
    return requireLink(this.#socket, this.#name)
  }

  /** What differs. */
  set(link: Link, bootId: string, mtu: number): void {
    if (link.mtu !== mtu) this.#socket.request(`set the MTU of ${this.#name}`, setLink(link.index, { mtu }))
    const alias = `${ALIAS}${bootId}`
    if (link.alias !== alias) this.#socket.request(`name ${this.#name} ours`, setLink(link.index, { alias }))
  }

  /** Absent already is fine. */
  remove(): void {
    const link = this.find()
    if (link !== undefined) this.#socket.request(`remove IPsec device ${this.#name}`, deleteLink(link.index))
  }

  close(): void {
    this.#socket.close()
  }
}

/** Which its alias says. */
export function bootIdOf({ alias }: Link): string | undefined {
  return alias?.startsWith(ALIAS) === true ? alias.slice(ALIAS.length) : undefined
}
