import { formatColumns } from './columns.ts'
import { type DropStatus, isUnusual } from './drops.ts'
import { type EncryptionStatus, encryptionCells } from './encryption-status.ts'
import { type HealthStatus, healthLines } from './health.ts'
import { type RotationStatus, rotationLines } from './rotation-status.ts'

/**
 * The agent's answer to `/v1/healthz`: Cilium's StatusResponse as far as its parts have a meaning here, and ours under
 * `pellicle`. `cilium-dbg status` prints it, the cluster CLI collects it from every node.
 */
export interface AgentStatus {
  readonly cilium: StateMessage
  readonly kubernetes: StateMessage
  readonly 'cni-file': StateMessage
  readonly ipam: {
    readonly status: string
    /** Addresses in use, with what has each. */
    readonly allocations: Readonly<Record<string, string>>
  }
  readonly routing: {
    readonly 'inter-host-routing-mode': string
    readonly 'intra-host-routing-mode': string
  }
  readonly masquerading: {
    readonly mode: string
    readonly enabled: boolean
    readonly enabledProtocols: { readonly ipv4: boolean; readonly ipv6: boolean }
  }
  readonly controllers: readonly ControllerStatus[]
  readonly encryption: EncryptionStatus
  readonly pellicle: PellicleStatus
}

export interface StateMessage {
  readonly state: 'Ok' | 'Warning' | 'Failure' | 'Disabled'
  readonly msg?: string
}

export interface ControllerStatus {
  readonly name: string
  /** Absent: the last run succeeded. */
  readonly status?: {
    readonly 'consecutive-failure-count': number
    readonly 'last-failure-msg': string
    /** RFC 3339. */
    readonly 'last-failure-timestamp': string
  }
}

interface PellicleStatus {
  readonly version: string
  /** As tools of Cilium understand it: core/version. */
  readonly 'cilium-version': string
  readonly node: string
  readonly datapath: string
  /** Why it is this one. */
  readonly 'datapath-reason'?: string
  /** core/transition: 0 clear … 3 closed. */
  readonly level: number
  /** The level in words, with what it waits for. */
  readonly phase: string
  readonly 'network-policy': 'not enforced'
  /** Sentences, each with what to do; also those about other nodes. */
  readonly problems: readonly string[]
  readonly peers: readonly PeerStatus[]
  /** Counters that packets ended in, with what each means. */
  readonly drops: readonly DropStatus[]
  /** What was put back because somebody else had changed it, since this agent began. */
  readonly rotation?: RotationStatus
  /** Absent: no round of probes has ended yet, or nobody asks (WireGuard). */
  readonly health?: HealthStatus
  readonly upkeep?: { readonly restored: number; readonly completed: number; readonly lostEvents: number }
}

export interface PeerStatus {
  readonly node: string
  /** Undefined: has published no key that can be used. */
  readonly 'public-key'?: string
  readonly 'last-handshake-time'?: string
  /** `idle`: no traffic was tried, so nothing is wrong. `not heard`: nothing authenticated has come from it (IPsec). */
  readonly state: 'ok' | 'idle' | 'no answer' | 'no handshake' | 'no key' | 'not heard'
  /** RFC 3339: since when what was sent to it has had no answer. */
  readonly 'unanswered-since'?: string
}

/** `cilium-dbg status`: the lines of Cilium's that mean something here, in Cilium's order, then ours. */
export function formatAgentStatus(status: AgentStatus, options: { verbose?: boolean } = {}): string {
  const { ipam, routing, masquerading, pellicle } = status
  const protocols = masquerading.enabledProtocols
  const failing = status.controllers.filter((controller) => controller.status !== undefined)
  const shown = options.verbose === true ? status.controllers : failing
  const lines: string[][] = [
    ['Kubernetes:', ...stateCells(status.kubernetes)],
    ['CNI Config file:', ...stateCells(status['cni-file'])],
    ['Cilium:', ...stateCells(status.cilium)],
    ['IPAM:', ipam.status, ''],
    ...(options.verbose === true ? [['Allocated addresses:'], ...allocationLines(ipam.allocations)] : []),
    ['Routing:', `Network: ${routing['inter-host-routing-mode']}   Host: ${routing['intra-host-routing-mode']}`],
    ['Masquerading:', `${masquerading.mode} [IPv4: ${onOff(protocols.ipv4)}, IPv6: ${onOff(protocols.ipv6)}]`],
    ['Controller Status:', `${status.controllers.length - failing.length}/${status.controllers.length} healthy`],
    ...shown.map((controller) => [`  ${controller.name}`, controller.status?.['last-failure-msg'] ?? 'healthy']),
    [
      'Datapath:',
      pellicle.datapath,
      ...(options.verbose === true && pellicle['datapath-reason'] !== undefined ? [pellicle['datapath-reason']] : []),
    ],
    ['NetworkPolicy:', pellicle['network-policy']],
    ['Encryption:', ...encryptionCells(status.encryption)],
    ['Encryption phase:', pellicle.phase],
    ...rotationLines(pellicle.rotation, options.verbose === true),
    ...healthLines(pellicle.health),
    ...peerLines(pellicle.peers, options.verbose === true),
    ...dropLines(pellicle.drops, options.verbose === true),
    ...upkeepLines(pellicle.upkeep, options.verbose === true),
    ...pellicle.problems.map((problem) => ['Problem:', problem]),
  ]
  return formatColumns(lines)
}

function stateCells({ state, msg }: StateMessage): string[] {
  return [state, msg ?? '']
}

function allocationLines(allocations: Readonly<Record<string, string>>): string[][] {
  return Object.entries(allocations).map(([ip, owner]) => [`  ${ip} (${owner})`])
}

function peerLines(peers: readonly PeerStatus[], verbose: boolean): string[][] {
  if (!verbose) {
    const silent = peers.filter(({ state }) => state !== 'ok' && state !== 'idle')
    const named = silent.map((peer) => {
      const since = peer['unanswered-since']
      return `${peer.node} (${peer.state}${since === undefined ? '' : ` since ${since}`})`
    })
    return silent.length === 0 ? [] : [['Unreachable nodes:', named.join(', ')]]
  }
  if (peers.length === 0) return []
  return [
    ['Nodes:'],
    ...peers.map((peer) => [
      `  ${peer.node}`,
      peer.state,
      [
        ...(peer['unanswered-since'] === undefined ? [] : [`unanswered since ${peer['unanswered-since']}`]),
        ...(peer['last-handshake-time'] === undefined ? [] : [`last handshake ${peer['last-handshake-time']}`]),
      ].join(', '),
    ]),
  ]
}

function dropLines(drops: readonly DropStatus[], verbose: boolean): string[][] {
  if (verbose) return formatDrops(drops)
  const packets = drops.filter(isUnusual).reduce((sum, drop) => sum + drop.packets, 0)
  return packets === 0 ? [] : [['Dropped packets:', `${packets} (status --verbose says why)`]]
}

/** A line for each, after a heading; nothing when nothing was dropped. */
export function formatDrops(drops: readonly DropStatus[]): string[][] {
  if (drops.length === 0) return []
  return [['Dropped packets:'], ...drops.map(({ name, packets, sentence }) => [`  ${name}`, `${packets}`, sentence])]
}

function upkeepLines(upkeep: PellicleStatus['upkeep'], verbose: boolean): string[][] {
  if (upkeep === undefined || (!verbose && upkeep.restored === 0)) return []
  return [['Put back:', `${upkeep.restored} routes, rules, devices or tables that somebody else had changed`]]
}

function onOff(on: boolean): string {
  return on ? 'Enabled' : 'Disabled'
}
