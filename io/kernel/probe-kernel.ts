import type { ProbeResult } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { xfrmFingerprint } from '#core/ipsec/xfrm-crypto.ts'
import { newLink } from '#core/netlink/link.ts'
import { IPPROTO_ESP } from '#core/netlink/xfrm.ts'
import type { XfrmCrypto } from '#core/netlink/xfrm-algorithm.ts'
import type { XfrmPolicy } from '#core/netlink/xfrm-policy.ts'
import {
  type SeenXfrmState,
  UDP_ENCAP_ESPINUDP,
  XFRM_STATE_AF_UNSPEC,
  XFRM_STATE_ESN,
  type XfrmState,
} from '#core/netlink/xfrm-state.ts'
import { ipsecHash } from '#io/crypto/ipsec-crypto.ts'
import { openNftables } from '#io/sys/libc.ts'
import { EncapSockets } from './encap-sockets.ts'
import { NetlinkSocket } from './netlink-socket.ts'
import { inScratchNamespace } from './network-namespace.ts'
import { WireguardClient } from './wireguard-client.ts'
import { XfrmClient } from './xfrm-client.ts'

/** What of a key decides whether this kernel can use it. Names are Linux' own, sizes bytes. */
export interface ProbedAlgorithm {
  readonly encryption: string
  readonly encryptionKeyBytes: number
  /** Absent: an AEAD. */
  readonly authentication?: string
  readonly authenticationKeyBytes?: number
  readonly icvBytes: number
}

const DEFAULT_ALGORITHM: ProbedAlgorithm = {
  encryption: 'rfc4106(gcm(aes))',
  encryptionKeyBytes: 20,
  icvBytes: 16,
}

/** The newest window that our states ask for. */
const WINDOW = 1024
const INTERFACE_ID = 1

/**
 * Makes a WireGuard device in a namespace of its own, and says what is missing when it cannot be made. Synchronous; some
 * milliseconds, or as long as a module takes to load.
 */
export function probeWireguard(): ProbeResult {
  return probed(() => {
    const links = new NetlinkSocket()
    try {
      step('WireGuard devices (module wireguard, CONFIG_WIREGUARD)', () =>
        links.request('make a WireGuard device', newLink({ name: 'probe', kind: 'wireguard' })),
      )
      const client = new WireguardClient()
      try {
        step('WireGuard by generic netlink', () => {
          client.change({ name: 'probe', listenPort: 1, mark: 0xe00 })
          const seen = client.read('probe')
          if (seen?.mark !== 0xe00) throw new Fault('kernel.probe', 'the mark is not what was set')
        })
      } finally {
        client.close()
      }
    } finally {
      links.close()
    }
  })
}

/**
 * Makes in a namespace of its own what the kernel's IPsec needs, for IPv4 and IPv6: an xfrm interface, a tunnel's state with that
 * algorithm, 64-bit sequence numbers, a window of 1,024, mark and output mark, the same in UDP, policies in each direction, and
 * what nftables must know of them.
 */
export function probeIpsec(algorithm: ProbedAlgorithm = DEFAULT_ALGORITHM): ProbeResult {
  return probed(() => {
    const client = step('XFRM for programs (module xfrm_user, CONFIG_XFRM_USER)', () => new XfrmClient())
    try {
      probeInterface()
      for (const family of [4, 6] as const) probeFamily(client, family, algorithm)
    } finally {
      client.close()
    }
    probeUdp()
    probeNftables()
  })
}

function probeInterface(): void {
  const links = new NetlinkSocket()
  try {
    step('xfrm interfaces (module xfrm_interface, CONFIG_XFRM_INTERFACE, Linux 4.19)', () =>
      links.request('make an xfrm interface', newLink({ name: 'probe', kind: 'xfrm', interfaceId: INTERFACE_ID })),
    )
  } finally {
    links.close()
  }
}

function probeUdp(): void {
  const sockets = new EncapSockets()
  try {
    step('sockets for ESP in UDP', () => sockets.open(4500))
  } finally {
    sockets.close()
  }
}

/** Of the tables of receive-marks.ts and of core/plan, what only this datapath needs. */
function probeNftables(): void {
  const nft = openNftables()
  try {
    step('nftables that know of marks by address and of IPsec (CONFIG_NF_TABLES_INET, CONFIG_NFT_FIB_INET)', () =>
      nft.run(`table inet probe {
        map peers {
          type ipv4_addr : mark
          elements = { 192.0.2.1 : 0x00010d00 }
        }
        chain arriving {
          type filter hook prerouting priority mangle
          meta l4proto esp fib daddr type local meta mark set ip saddr map @peers
        }
        chain leaving {
          type filter hook postrouting priority 300
          rt ipsec exists accept
        }
      }`),
    )
  } finally {
    nft.close()
  }
}

function probeFamily(client: XfrmClient, family: 4 | 6, algorithm: ProbedAlgorithm): void {
  const state = stateOf(family, cryptoOf(algorithm))
  const esp = family === 4 ? 'module esp4, CONFIG_INET_ESP' : 'module esp6, CONFIG_INET6_ESP'
  const name =
    algorithm.authentication === undefined
      ? algorithm.encryption
      : `${algorithm.authentication} with ${algorithm.encryption}`
  try {
    client.change({ do: 'add state', state })
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    // ENOSYS: no such algorithm. EPROTONOSUPPORT: no ESP of that family. ENOENT: known, but its module is missing
    const known = error.code === 'kernel.eprotonosupport' ? `ESP over IPv${family} (${esp})` : `the algorithm ${name}`
    throw missing(known, error)
  }
  const seen = step('reading XFRM states', () => client.states().find(({ spi }) => spi === state.spi))
  // "confidentiality" of lockdown(7): without its key a state cannot be known again
  if (!shows(seen, state.crypto)) throw missing('reading the keys of states (lockdown=confidentiality hides them)')
  if (seen?.outputMark?.mask !== state.outputMark?.mask) throw missing('output marks of states (Linux 4.19)')
  if (seen?.replay.window !== WINDOW)
    throw missing('64-bit sequence numbers with a window of 1,024 packets (Linux 3.0)')
  if (seen.mark?.mask !== state.mark?.mask) throw missing('marks of states')
  if (seen.interfaceId !== INTERFACE_ID) throw missing('states of an xfrm interface (Linux 4.19)')
  step(`ESP in UDP over IPv${family} (CONFIG_INET${family === 6 ? '6' : ''}_ESP)`, () =>
    client.change({
      do: 'add state',
      state: {
        ...state,
        spi: state.spi + 1,
        encapsulation: { type: UDP_ENCAP_ESPINUDP, sourcePort: 4500, destinationPort: 4500 },
      },
    }),
  )
  for (const direction of ['out', 'in', 'fwd'] as const) {
    step(`XFRM policies (${direction}, IPv${family})`, () =>
      client.change({ do: 'set policy', policy: policyOf(state, direction) }),
    )
  }
}

function stateOf(family: 4 | 6, crypto: XfrmCrypto): XfrmState {
  const [source, destination] = family === 4 ? ['192.0.2.1', '192.0.2.2'] : ['2001:db8::1', '2001:db8::2']
  return {
    source: requireIp(source, 'probe'),
    destination: requireIp(destination, 'probe'),
    spi: family * 16,
    protocol: IPPROTO_ESP,
    mode: 'tunnel',
    reqid: 1,
    crypto,
    flags: XFRM_STATE_ESN | XFRM_STATE_AF_UNSPEC,
    replay: { sent: 0n, received: 0n, window: WINDOW },
    mark: { value: 0x10d00, mask: 0xffff0f00 },
    outputMark: { value: 0xe00, mask: 0xf00 },
    interfaceId: INTERFACE_ID,
  }
}

function shows(seen: SeenXfrmState | undefined, wanted: XfrmCrypto): boolean {
  if (seen?.crypto === undefined) return false
  return xfrmFingerprint(seen.crypto, ipsecHash) === xfrmFingerprint(wanted, ipsecHash)
}

function policyOf({ source, destination }: XfrmState, direction: XfrmPolicy['direction']): XfrmPolicy {
  const all = requireCidr(source.includes(':') ? '::/0' : '0.0.0.0/0', 'probe')
  return {
    selector: { source: all, destination: all },
    direction,
    priority: 1,
    action: 'allow',
    interfaceId: INTERFACE_ID,
    templates: [{ source, destination, protocol: IPPROTO_ESP, mode: 'tunnel', reqid: 1, spi: 0 }],
  }
}

/** Any key will do; it protects nothing. */
function cryptoOf(algorithm: ProbedAlgorithm): XfrmCrypto {
  // not all the same byte: 3DES and XTS refuse keys whose parts are equal
  const keyOf = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => i + 1)
  const encryption = { name: algorithm.encryption, key: keyOf(algorithm.encryptionKeyBytes) }
  if (algorithm.authentication === undefined) return { aead: { ...encryption, icvBytes: algorithm.icvBytes } }
  const key = keyOf(algorithm.authenticationKeyBytes ?? 0)
  return { encryption, authentication: { name: algorithm.authentication, key, icvBytes: algorithm.icvBytes } }
}

/** What a probe ends with: named, with the kernel's own answer as its cause. */
function missing(what: string, cause?: Fault): Fault {
  return new Fault('kernel.probe.missing', what, cause === undefined ? {} : { cause })
}

function step<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    if (error instanceof Fault) throw missing(what, error)
    throw error
  }
}

function probed(run: () => void): ProbeResult {
  try {
    inScratchNamespace(run)
    return { usable: true }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const cause = error.cause instanceof Fault ? ` (${error.cause.message})` : ''
    const remedy =
      error.code === 'kernel.probe.missing'
        ? 'Load the module or use a kernel that has it; until then the userspace datapath does the same'
        : (error.remedy ?? 'Run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN')
    return { usable: false, missing: `${error.message}${cause}`, remedy }
  }
}
