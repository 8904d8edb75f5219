import { type Ip, requireIp } from '#core/ip/address.ts'
import { requireCidr } from '#core/ip/cidr.ts'
import { macOfIp } from '#core/ip/mac.ts'
import type { KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import {
  DEFAULTS,
  type LocalEndpoint,
  type OwnIpsec,
  type Peer,
  type PlanConfig,
  type Snapshot,
} from '#core/plan/snapshot.ts'
import type { Level } from '#core/transition/level.ts'
import { type EncryptionType, receivesBy } from '#core/transition/mode.ts'
import { type PublicKey, publicKeyOf } from '#core/wireguard/key.ts'

/** Clusters as snapshots: node `n` has node IP 172.18.0.n+2, pod CIDR 10.244.n.0/24, internal IP 10.244.n.1, and alike in IPv6. */

export const ip = (text: string): Ip => requireIp(text, 'test')
export const cidr = (text: string) => requireCidr(text, 'test')

/** A different one per number; nobody has its private key. */
export function keyOf(n: number): PublicKey {
  const bytes = new Uint8Array(32).fill(7)
  new DataView(bytes.buffer).setUint32(0, n + 1)
  return publicKeyOf(bytes)
}

const high = (n: number) => n >> 8
const low = (n: number) => n & 255
/** 10.244 and on, round inside 10.224.0.0/11: room for 8,192 nodes. */
const block = (n: number) => 224 + ((20 + high(n)) % 32)
const hex = (n: number) => n.toString(16)

export const nodeIpsOf = (n: number) => ({
  4: ip(`172.18.${high(n + 2)}.${low(n + 2)}`),
  6: ip(`fc00:18::${hex(n + 2)}`),
})
export const podCidrsOf = (n: number) => [cidr(`10.${block(n)}.${low(n)}.0/24`), cidr(`fd00:10:244:${hex(n)}::/64`)]
export const internalIpsOf = (n: number) => ({
  4: ip(`10.${block(n)}.${low(n)}.1`),
  6: ip(`fd00:10:244:${hex(n)}::1`),
})

export const CONFIG: PlanConfig = {
  encryption: {
    enabled: true,
    type: 'wireguard',
    nodeEncryption: false,
    listenPort: DEFAULTS.listenPort,
    persistentKeepalive: 0,
    ipsec: DEFAULTS.ipsec,
  },
  masquerade: { 4: true, 6: true },
  clusterCidrs: [cidr('10.224.0.0/11'), cidr('fd00:10:244::/48')],
  tunnel: DEFAULTS.tunnel,
  mark: DEFAULTS.mark,
  gsoMaxSize: DEFAULTS.gsoMaxSize,
}

export function peerOf(n: number, level: Level | undefined, change: Partial<Peer> = {}): Peer {
  return {
    name: `node-${n}`,
    nodeIps: nodeIpsOf(n),
    internalIps: internalIpsOf(n),
    podCidrs: podCidrsOf(n),
    publicKeyText: level === undefined || level === 0 ? undefined : keyOf(n),
    encryptionKey: level === undefined || level === 0 ? 0 : 255,
    announcement: level === undefined ? undefined : { level, epoch: 1 },
    encryptsHosts: false,
    // as far as a test does not say otherwise, Kubernetes grants what the node claims
    granted: {
      podCidrs: change.podCidrs ?? podCidrsOf(n),
      nodeIps: Object.values(change.nodeIps ?? nodeIpsOf(n)),
      optedOut: change.encryptionKey === 0,
    },
    ...change,
  }
}

/** Of IPsec: two keys that nobody has. */
export const KEY_3: KeyRef = { id: 3, fingerprint: '3333333333333333' as KeyFingerprint }
export const KEY_4: KeyRef = { id: 4, fingerprint: '4444444444444444' as KeyFingerprint }

export const bootIdOf = (n: number) => `00000000-0000-4000-8000-${n.toString(16).padStart(12, '0')}`

export function ipsecConfig(
  shape: IpsecShape,
  change: Partial<PlanConfig['encryption']> = {},
): Pick<PlanConfig, 'encryption'> {
  return { encryption: { ...CONFIG.encryption, type: 'ipsec', ipsec: { ...DEFAULTS.ipsec, shape }, ...change } }
}

/** A peer of {@link peerOf} that receives and sends by `keys`. */
export function ipsecPeerOf(
  n: number,
  level: Level | undefined,
  change: Partial<Peer> = {},
  keys: readonly KeyRef[] = [KEY_3],
): Peer {
  const silent = level === undefined || level === 0
  return peerOf(n, level, {
    publicKeyText: undefined,
    encryptionKey: silent ? 0 : (keys.at(-1)?.id ?? 0),
    ...(silent ? {} : { bootId: bootIdOf(n), ipsec: { receives: keys, sends: keys } }),
    ...change,
  })
}

/** Node `n` with one key, by which it sends to every one of `peers`. */
export function ownIpsecOf(n: number, peers: readonly Peer[], keys: readonly KeyRef[] = [KEY_3]): OwnIpsec {
  const newest = keys.at(-1)
  const sendBy = newest === undefined ? [] : peers.filter((peer) => peer.ipsec).map(({ name }) => [name, newest])
  return {
    bootId: bootIdOf(n),
    receive: keys,
    words: { receives: keys, sends: keys },
    sendBy: Object.fromEntries(sendBy) as Record<string, KeyRef>,
  }
}

/** A node between WireGuard and IPsec, at a stage of core/transition/mode.ts. */
function stageConfig(
  shape: IpsecShape,
  stage: Level,
  change: Partial<PlanConfig['encryption']> = {},
): Partial<PlanConfig> {
  const [type, second] = receivesBy(stage)
  return ipsecConfig(shape, { type, ...(second === undefined ? {} : { second }), ...change })
}

/** The same as a peer: what it announces at that stage. */
export function stagePeerOf(n: number, level: Level, stage: Level, change: Partial<Peer> = {}): Peer {
  const types: readonly (EncryptionType | undefined)[] = level === 0 ? [] : receivesBy(stage)
  return ipsecPeerOf(n, level, {
    publicKeyText: types.includes('wireguard') ? keyOf(n) : undefined,
    ...(types.includes('ipsec') ? {} : { bootId: undefined, ipsec: undefined }),
    ...(level === 0 ? {} : { encryptionKey: stage <= 1 ? 255 : KEY_3.id }),
    mode: { level: stage, epoch: 1 },
    ...change,
  })
}

/** As seen by node `n`. */
export function stageSnapshotOf(
  n: number,
  level: Level,
  stage: Level,
  peers: readonly Peer[],
  shape: IpsecShape,
  change: Partial<PlanConfig['encryption']> = {},
): Snapshot {
  const types: readonly (EncryptionType | undefined)[] = level === 0 ? [] : receivesBy(stage)
  return snapshotOf(n, level, peers, {
    config: stageConfig(shape, stage, change),
    self: {
      publicKey: types.includes('wireguard') ? keyOf(n) : undefined,
      ipsec: types.includes('ipsec') ? ownIpsecOf(n, peers) : undefined,
      mode: { level: stage, epoch: 1 },
    },
  })
}

export function endpointOf(n: number, pod: number): LocalEndpoint {
  const ips = { 4: ip(`10.${block(n)}.${low(n)}.${pod}`), 6: ip(`fd00:10:244:${hex(n)}::${hex(pod)}`) }
  return { ips, device: `lxc${n}x${pod}`, mac: macOfIp(ips[4]) }
}

/** As seen by node `n`. */
export function snapshotOf(
  n: number,
  level: Level,
  peers: readonly Peer[],
  change: { config?: Partial<PlanConfig>; self?: Partial<Snapshot['self']>; endpoints?: readonly LocalEndpoint[] } = {},
): Snapshot {
  return {
    config: { ...CONFIG, ...change.config },
    self: {
      name: `node-${n}`,
      nodeIps: nodeIpsOf(n),
      internalIps: internalIpsOf(n),
      podCidrs: podCidrsOf(n),
      underlayDevice: 'eth0',
      underlayMtu: 1500,
      publicKey: level === 0 || change.config?.encryption?.type === 'ipsec' ? undefined : keyOf(n),
      ...(level === 0 || change.config?.encryption?.type !== 'ipsec' ? {} : { ipsec: ownIpsecOf(n, peers) }),
      announcement: { level, epoch: level === 0 ? 0 : 1 },
      optedOut: false,
      ...change.self,
    },
    peers,
    endpoints: change.endpoints ?? [endpointOf(n, 10)],
  }
}
