import type { WireguardDevice, WireguardPeer } from '#core/datapath/datapath.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import type { SocketAddress } from '#core/netlink/socket-address.ts'
import type { WireguardChange, WireguardPeerChange } from '#core/netlink/wireguard-change.ts'
import type { SeenWireguard, SeenWireguardPeer } from '#core/netlink/wireguard-device.ts'
import type { PublicKey } from '#core/wireguard/key.ts'

/** What {@link diffWireguard} has to be told besides the two states. */
export interface DiffFacts {
  /** Of the wanted private key. */
  readonly publicKey: PublicKey
  /** A key that no node has. */
  readonly nobody: PublicKey
  /** What each peer was last told to be reached by, so that roaming is not undone. */
  readonly endpoints: ReadonlyMap<PublicKey, SocketAddress>
}

/**
 * What leads from `actual` to `wanted`, undefined when nothing differs. The kernel takes peers in their order:
 *
 * 1. peers that are new or changed, with the allowed IPs that they get (whoever had one before loses it in that moment,
 *    never earlier);
 * 2. allowed IPs that nobody gets: given to a peer of nobody's, which goes at once, because a single one can be taken away
 *    only from Linux 6.16 on, and setting the list anew has moments without the others;
 * 3. peers that go.
 */
export function diffWireguard(
  wanted: WireguardDevice,
  actual: SeenWireguard,
  { publicKey, nobody, endpoints }: DiffFacts,
): WireguardChange | undefined {
  const before = new Map(actual.peers.map((peer) => [peer.publicKey, peer]))
  const wantedKeys = new Set(wanted.peers.map((peer) => peer.publicKey))
  const given = new Set<Cidr>(wanted.peers.flatMap(({ allowedIps }) => allowedIps))
  const peers: WireguardPeerChange[] = []
  const greeted: WireguardPeerChange[] = []
  for (const peer of wanted.peers) {
    const had = before.get(peer.publicKey)
    const change = peerChange(peer, had, endpoints.get(peer.publicKey))
    if (change !== undefined) peers.push(change)
    if (had === undefined) greeted.push(...greetings(peer))
  }
  peers.push(...greeted)
  const kept = actual.peers.filter((peer) => wantedKeys.has(peer.publicKey))
  const lost = kept.flatMap(({ allowedIps }) => allowedIps.filter((cidr) => !given.has(cidr)))
  if (lost.length > 0) peers.push({ publicKey: nobody, allowedIps: lost }, { publicKey: nobody, remove: true })
  for (const peer of actual.peers) {
    if (!wantedKeys.has(peer.publicKey)) peers.push({ publicKey: peer.publicKey, remove: true })
  }
  const change: WireguardChange = {
    name: wanted.name,
    ...(actual.publicKey === publicKey ? {} : { privateKey: wanted.privateKey }),
    ...(actual.listenPort === wanted.listenPort ? {} : { listenPort: wanted.listenPort }),
    ...(actual.mark === wanted.mark ? {} : { mark: wanted.mark }),
    ...(peers.length === 0 ? {} : { peers }),
  }
  return Object.keys(change).length === 1 ? undefined : change
}

function peerChange(
  peer: WireguardPeer,
  before: SeenWireguardPeer | undefined,
  said: SocketAddress | undefined,
): WireguardPeerChange | undefined {
  const { publicKey, endpoint, persistentKeepalive } = peer
  const current = before?.endpoint
  // after a restart of ours nobody remembers what was said: what the cluster announces counts then
  const moved = !sameEndpoint(current, endpoint) && (current === undefined || !sameEndpoint(said, endpoint))
  const has = new Set(before?.allowedIps)
  const allowedIps = peer.allowedIps.filter((cidr) => !has.has(cidr))
  const change: WireguardPeerChange = {
    publicKey,
    ...(moved ? { endpoint } : {}),
    ...((before?.persistentKeepalive ?? 0) === persistentKeepalive ? {} : { persistentKeepalive }),
    ...(allowedIps.length === 0 ? {} : { allowedIps }),
  }
  if (before === undefined) return change
  return Object.keys(change).length === 1 ? undefined : { ...change, updateOnly: true }
}

/**
 * A new peer is greeted: one that begins before this node knows it is not heard, and tries again only after 5 s. The kernel
 * sends a keepalive, and so a handshake, in the moment in which an interval is set where none was.
 */
function greetings({ publicKey, persistentKeepalive }: WireguardPeer): readonly WireguardPeerChange[] {
  if (persistentKeepalive !== 0) return []
  return [25, 0].map((seconds) => ({ publicKey, updateOnly: true, persistentKeepalive: seconds }))
}

function sameEndpoint(a: SocketAddress | undefined, b: SocketAddress | undefined): boolean {
  return a?.ip === b?.ip && a?.port === b?.port
}
