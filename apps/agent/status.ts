import type { AgentConfig } from '#core/api/config.ts'
import { formatSelector } from '#core/api/selector.ts'
import type { IpsecState, WireguardState } from '#core/datapath/datapath.ts'
import { describeFault } from '#core/fault/fault.ts'
import { familyOf, type Ip } from '#core/ip/address.ts'
import { cidrFamily } from '#core/ip/cidr.ts'
import type { AgentStatus, ControllerStatus, PeerStatus, StateMessage } from '#core/status/agent-status.ts'
import { dropsOf } from '#core/status/drops.ts'
import type { EncryptionStatus, WireguardPeerStatus } from '#core/status/encryption-status.ts'
import type { HealthStatus } from '#core/status/health.ts'
import { CLEAR, CLOSED, SENDING } from '#core/transition/level.ts'
import type { Transition } from '#core/transition/next-level.ts'
import { ciliumVersion, VERSION } from '#core/version/version.ts'
import { parsePublicKey } from '#core/wireguard/key.ts'
import type { Endpoint } from './endpoints.ts'
import type { RotationReport } from './ipsec-part.ts'
import { ipsecPeerStatuses, ipsecStatus, isSettled, rotationStatus } from './ipsec-status.ts'
import type { KeyReading } from './key-source.ts'
import type { Applied } from './network.ts'
import type { NodeAddresses } from './node-addresses.ts'
import { pathProblems } from './path-mtu.ts'
import type { HostObservation } from './ports.ts'
import type { WorkerState } from './worker.ts'

/**
 * A peer that lives answers data within KEEPALIVE_TIMEOUT (10 s) and a handshake within REKEY_TIMEOUT (5 s): WireGuard
 * takes it for gone then (the paper, section 6.5).
 */
const ANSWER_MS = 15_000
/** The steps that a cluster takes by itself are over by then. */
const STALLED_MS = 60_000

type NamedWorker = { readonly name: string } & WorkerState

/** What a status is made of. */
export interface StatusInputs {
  readonly nodeName: string
  readonly config: AgentConfig | undefined
  readonly applied: Applied | undefined
  readonly transition: Transition | undefined
  readonly notReady: string | undefined
  readonly workers: readonly NamedWorker[]
  readonly endpoints: readonly Endpoint[]
  /** Undefined: no device. An Error: it could not be asked. */
  readonly device: WireguardState | undefined | Error
  /** The same, of IPsec. */
  readonly ipsecDevice: IpsecState | undefined | Error
  /** Undefined: IPsec keys are not looked for. */
  readonly ipsecKeys: KeyReading | undefined
  readonly rotation: RotationReport | undefined
  readonly health: HealthStatus | undefined
  readonly host: HostObservation
  /** By end of a tunnel: bytes that the way there takes, where somebody has said so. */
  readonly paths: ReadonlyMap<Ip, number>
  /** Of the datapath's device. */
  readonly counters: Readonly<Record<string, number>>
  /** Milliseconds since the epoch. */
  readonly now: number
  /** When this node's present level was entered. */
  readonly levelSince: number | undefined
  readonly usage: ReturnType<NodeAddresses['usage']>
  readonly datapath: string
  readonly datapathReason?: string | undefined
  readonly kubernetes: StateMessage
  readonly cniFile: StateMessage
}

export function makeStatus(inputs: StatusInputs): AgentStatus {
  const { applied, config, workers, notReady } = inputs
  const encryption = encryptionStatus(inputs, false)
  const rotation = rotationStatus(inputs)
  const masquerades = {
    4: config?.ipv4 === true && config.masquerade[4],
    6: config?.ipv6 === true && config.masquerade[6],
  }
  return {
    cilium: ciliumState(inputs),
    kubernetes: inputs.kubernetes,
    'cni-file': inputs.cniFile,
    ipam: ipamStatus(inputs),
    routing: {
      'inter-host-routing-mode': config?.routingMode === 'native' ? 'Native' : 'Tunnel [vxlan]',
      'intra-host-routing-mode': 'Legacy',
    },
    masquerading: {
      mode: 'nftables',
      enabled: masquerades[4] || masquerades[6],
      enabledProtocols: { ipv4: masquerades[4], ipv6: masquerades[6] },
    },
    controllers: workers.map(controllerStatus),
    encryption,
    pellicle: {
      version: VERSION,
      'cilium-version': ciliumVersion(config?.profile),
      node: inputs.nodeName,
      datapath: inputs.datapath,
      ...(inputs.datapathReason === undefined ? {} : { 'datapath-reason': inputs.datapathReason }),
      level: applied?.snapshot.self.announcement.level ?? CLEAR,
      phase: inputs.transition?.text ?? notReady ?? 'starting',
      'network-policy': 'not enforced',
      problems: [
        ...(applied?.plan.problems ?? []).map(({ object, message, remedy }) => `${object}: ${message}. ${remedy}`),
        ...(inputs.rotation?.problems ?? []).map(({ object, message, remedy }) => `${object}: ${message}. ${remedy}`),
        ...pathProblems(applied, inputs.paths).map(({ object, message, remedy }) => `${object}: ${message}. ${remedy}`),
        ...stalled(inputs),
      ],
      peers: peerStatuses(inputs),
      drops: [
        ...dropsOf('nftables', inputs.host.drops),
        ...dropsOf(inputs.datapath === 'kernel' ? 'kernel' : 'engine', inputs.counters),
      ],
      ...(rotation === undefined ? {} : { rotation }),
      ...(inputs.health === undefined ? {} : { health: inputs.health }),
      ...(inputs.host.upkeep === undefined ? {} : { upkeep: inputs.host.upkeep }),
    },
  }
}

/**
 * `withPeers`: as in debuginfo. The mode is what this node does, not what it is asked for: Wireguard from
 * the level on at which it sends encrypted, and without `msg` only when it is closed, with a key and a device.
 */
export function encryptionStatus(inputs: StatusInputs, withPeers: boolean): EncryptionStatus {
  const { applied, config, device } = inputs
  const self = applied?.snapshot.self
  const level = self?.announcement.level ?? CLEAR
  if ((config?.encryption ?? 'none') === 'none' && level === CLEAR) return { mode: 'Disabled' }
  const type = applied?.snapshot.config.encryption.type ?? config?.encryption
  if (type === 'ipsec') return ipsecStatus(inputs)
  const mode = level >= SENDING ? 'Wireguard' : 'Disabled'
  const phase = inputs.transition?.text ?? inputs.notReady ?? 'starting'
  if (device instanceof Error) return { mode, msg: describeFault(device) }
  if (device === undefined) return { mode, msg: phase }
  const optOut = config === undefined ? '' : formatSelector(config.optOut)
  const closed = level === CLOSED && isSettled(inputs)
  const noKey =
    self?.publicKey === undefined ? 'this node has no key: its pods are cut off from other nodes' : undefined
  return {
    mode,
    ...(closed && noKey === undefined ? {} : { msg: noKey ?? phase }),
    wireguard: {
      'node-encryption': nodeEncryption(inputs),
      ...(optOut === '' ? {} : { 'node-encrypt-opt-out-labels': optOut }),
      interfaces: [
        {
          name: device.name,
          'listen-port': device.listenPort,
          'public-key': device.publicKey,
          'peer-count': device.peers.length,
          ...(withPeers ? { peers: device.peers.map(peerDetail) } : {}),
        },
      ],
    },
  }
}

function nodeEncryption({ config, applied }: StatusInputs): 'Disabled' | 'Enabled' | 'OptedOut' {
  if (config?.nodeEncryption !== true) return 'Disabled'
  return applied?.snapshot.self.optedOut === true ? 'OptedOut' : 'Enabled'
}

function peerDetail(peer: WireguardState['peers'][number]): WireguardPeerStatus {
  const { endpoint, lastHandshake } = peer
  return {
    'public-key': peer.publicKey,
    endpoint: endpoint === undefined ? '' : hostPort(endpoint.ip, endpoint.port),
    ...(lastHandshake === undefined ? {} : { 'last-handshake-time': new Date(lastHandshake).toISOString() }),
    'allowed-ips': peer.allowedIps,
    'transfer-tx': Number(peer.txBytes),
    'transfer-rx': Number(peer.rxBytes),
  }
}

function hostPort(ip: Ip, port: number): string {
  return familyOf(ip) === 6 ? `[${ip}]:${port}` : `${ip}:${port}`
}

/** A node that was switched off for good holds up all others until somebody says that it is gone. */
function stalled({ transition, levelSince, now }: StatusInputs): string[] {
  const [first] = transition?.waitingFor ?? []
  if (transition === undefined || first === undefined || now - (levelSince ?? now) < STALLED_MS) return []
  return [
    `encryption: ${transition.text}. If ${first} is gone for good: kubectl delete node ${first} (the operator then ` +
      'deletes its CiliumNode); else look at its agent: kubectl -n kube-system get pods -o wide -l k8s-app=cilium',
  ]
}

/** A pair is unhealthy only when traffic was tried: an idle one says nothing (and no probe breaks its silence). */
function peerStatuses(inputs: StatusInputs): PeerStatus[] {
  const { applied, device, now } = inputs
  if (applied?.snapshot.config.encryption.type === 'ipsec') return ipsecPeerStatuses(inputs)
  if (applied?.plan.wireguard === undefined) return []
  const states = new Map(device instanceof Error ? [] : device?.peers.map((peer) => [peer.publicKey, peer]))
  return applied.snapshot.peers.map(({ name, publicKeyText }) => {
    const key = parsePublicKey(publicKeyText ?? '')
    const state = key === undefined ? undefined : states.get(key)
    if (key === undefined || state === undefined) return { node: name, state: 'no key' }
    const { lastHandshake, unansweredSince } = state
    const silent = unansweredSince !== undefined && now - unansweredSince > ANSWER_MS
    const words = {
      node: name,
      'public-key': key,
      ...(lastHandshake === undefined ? {} : { 'last-handshake-time': new Date(lastHandshake).toISOString() }),
      ...(silent ? { 'unanswered-since': new Date(unansweredSince).toISOString() } : {}),
    }
    if (lastHandshake !== undefined) return { ...words, state: silent ? 'no answer' : 'ok' }
    return { ...words, state: silent || state.txBytes > 0n ? 'no handshake' : 'idle' }
  })
}

function ciliumState({ notReady, workers }: StatusInputs): StateMessage {
  if (notReady !== undefined) return { state: 'Failure', msg: notReady }
  const failing = workers.find(({ failures }) => failures > 1)
  if (failing !== undefined) return { state: 'Warning', msg: describeFault(failing.lastError) }
  return { state: 'Ok', msg: VERSION }
}

function controllerStatus({ name, failures, lastError, lastFailure }: NamedWorker): ControllerStatus {
  return failures === 0
    ? { name }
    : {
        name,
        status: {
          'consecutive-failure-count': failures,
          'last-failure-msg': describeFault(lastError),
          'last-failure-timestamp': new Date(lastFailure).toISOString(),
        },
      }
}

function ipamStatus({ applied, endpoints, usage }: StatusInputs): AgentStatus['ipam'] {
  const internal = applied?.snapshot.self.internalIps ?? {}
  const allocations: Record<string, string> = {}
  for (const ip of [internal[4], internal[6]]) if (ip !== undefined) allocations[ip] = 'router'
  for (const { ips, pod, containerId } of endpoints) for (const { ip } of ips) allocations[ip] = pod || containerId
  const parts = usage.map(
    ({ cidr, used, capacity }) => `IPv${cidrFamily(cidr)}: ${used}/${capacity} allocated from ${cidr}`,
  )
  return { status: parts.join(', '), allocations }
}
