import type {
  Datapath,
  IpsecDevice,
  IpsecOpened,
  IpsecSettings,
  IpsecState,
  ProbeResult,
  WireguardDevice,
  WireguardState,
} from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { KernelWireguard } from './kernel-wireguard.ts'
import { inNetworkNamespace } from './network-namespace.ts'
import { probeWireguard } from './probe-kernel.ts'

export interface KernelDatapathOptions {
  /** Path of a network namespace; the calling thread's own without. */
  readonly namespace?: string
}

/**
 * The kernel's datapath by netlink, for as long as its sockets are open in one network namespace. WireGuard only: IPsec's
 * methods refuse, since an agent must not believe that something was encrypted.
 */
export class KernelDatapath implements Datapath {
  readonly kind = 'kernel'
  readonly #wireguard: KernelWireguard
  #probed: ProbeResult | undefined

  /** @throws Fault `kernel.*` without the right to open netlink sockets there */
  constructor(options: KernelDatapathOptions = {}) {
    const { namespace } = options
    this.#wireguard =
      namespace === undefined ? new KernelWireguard() : inNetworkNamespace(namespace, () => new KernelWireguard())
  }

  /** A yes is kept; a no is asked again, since a module may be loaded meanwhile. */
  async probe(): Promise<ProbeResult> {
    if (this.#probed?.usable !== true) this.#probed = probeWireguard()
    return this.#probed
  }

  async apply(device: WireguardDevice): Promise<void> {
    this.#wireguard.apply(device)
  }

  async observe(name: string): Promise<WireguardState | undefined> {
    return this.#wireguard.observe(name)
  }

  /** The kernel's WireGuard counts drops only together with its device's, which the host's statistics tell. */
  async counters(_name: string): Promise<Readonly<Record<string, number>>> {
    return {}
  }

  async remove(name: string): Promise<void> {
    this.#wireguard.remove(name)
  }

  async openIpsec({ name }: IpsecSettings): Promise<IpsecOpened> {
    throw noIpsec(name)
  }

  async applyIpsec({ name }: IpsecDevice): Promise<void> {
    throw noIpsec(name)
  }

  async observeIpsec(_name: string): Promise<IpsecState | undefined> {
    return undefined
  }

  async close(): Promise<void> {
    this.#wireguard.close()
  }
}

function noIpsec(name: string): Fault {
  return new Fault('datapath.kernel-ipsec', `the kernel datapath cannot make the IPsec device ${name}`, {
    field: name,
    remedy: 'Use the userspace datapath for IPsec',
  })
}
