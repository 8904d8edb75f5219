import type { NodeAnnouncement } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import type { NodeFacts } from '#core/api/node.ts'
import type { Fault } from '#core/fault/fault.ts'
import { compareIp } from '#core/ip/address.ts'
import { type Cidr, cidrFamily, containsCidr, lengthOf, networkOf } from '#core/ip/cidr.ts'
import { CLEAR, CLOSED } from '#core/transition/level.ts'

/** Something about the cluster that a person has to repair. */
export interface Finding {
  /** Equal for the same trouble, however often it is looked at. */
  readonly key: string
  /** UpperCamelCase: an Event's reason and a metric's label. */
  readonly reason: FindingReason
  /** The node that the Event is written to. */
  readonly node: string
  readonly sentence: string
  readonly remedy: string
  /** It must last so long before it is told: what a cluster does by itself within this time is no trouble. */
  readonly holdMs: number
}

export type FindingReason =
  | 'OverlappingPodCIDR'
  | 'DuplicatePublicKey'
  | 'NoPodCIDR'
  | 'PodCIDROutsideCluster'
  | 'PodCIDRNotAnnounced'
  | 'PodCIDRPoolUsedUp'
  | 'PodCIDROutsidePool'
  | 'PodCIDRPoolNotGuarded'
  | 'MalformedNode'
  | 'NoAgent'
  | 'NoPublicKey'
  | 'NoIPsecKey'
  | 'TransitionStalled'

export const FINDING_REASONS: readonly FindingReason[] = [
  'OverlappingPodCIDR',
  'DuplicatePublicKey',
  'NoPodCIDR',
  'PodCIDROutsideCluster',
  'PodCIDRNotAnnounced',
  'PodCIDRPoolUsedUp',
  'PodCIDROutsidePool',
  'PodCIDRPoolNotGuarded',
  'MalformedNode',
  'NoAgent',
  'NoPublicKey',
  'NoIPsecKey',
  'TransitionStalled',
]

export interface ClusterView {
  readonly nodes: readonly NodeFacts[]
  readonly announcements: readonly NodeAnnouncement[]
  readonly config: Pick<AgentConfig, 'encryption' | 'ipam' | 'clusterCidrs'>
  /** With `ipam: cluster-pool`, by node: why it does not get what it needs. */
  readonly podCidrFaults: ReadonlyMap<string, Fault>
}

const AT_ONCE = 0
const SOON = 30_000
const LATER = 120_000
const MOST_OVERLAPS = 500

/** Everything that is wrong now, worst first; O(n log n). */
export function findTroubles(view: ClusterView): Finding[] {
  return [
    ...overlaps(view),
    ...duplicateKeys(view.announcements),
    ...podCidrs(view),
    ...pool(view),
    ...malformed(view),
    ...agents(view),
    ...transition(view),
  ]
}

/** Two nodes with common addresses: packets for one go to the other. */
function overlaps(view: ClusterView): Finding[] {
  const owners = new Map<Cidr, Set<string>>()
  const alive = new Set(view.nodes.map((node) => node.name))
  const own = (cidr: Cidr, name: string) => owners.set(cidr, (owners.get(cidr) ?? new Set()).add(name))
  const isKubernetes = view.config.ipam === 'kubernetes'
  // with cluster-pool what Kubernetes gives its Nodes is nobody's
  for (const node of isKubernetes ? view.nodes : []) for (const cidr of node.podCidrs) own(cidr, node.name)
  for (const node of view.announcements) for (const cidr of node.podCidrs) own(cidr, node.name)
  // sorted by network, a prefix that overlaps stands somewhere below the open ones that hold its network
  const sorted = [...owners].sort(([a], [b]) => compareIp(networkOf(a), networkOf(b)) || lengthOf(a) - lengthOf(b))
  const findings: Finding[] = []
  const tell = (a: Cidr, first: string, b: Cidr, second: string) => {
    // a thousand nodes with one CIDR are half a million pairs, and one mistake
    if (findings.length >= MOST_OVERLAPS) return
    const [one, two] = [first, second].toSorted() as [string, string]
    findings.push({
      key: `OverlappingPodCIDR ${one} ${two}`,
      reason: 'OverlappingPodCIDR',
      node: two,
      sentence: `nodes ${first} (${a}) and ${second} (${b}) have pod addresses in common: packets for one may reach the other`,
      remedy: `Drain and delete Node ${two}, and let it register anew${isKubernetes ? '; check --cluster-cidr of the controller manager' : ''}`,
      // a pod CIDR that went from a deleted node to a new one: the left-over CiliumNode is deleted soon
      holdMs: alive.has(one) && alive.has(two) ? AT_ONCE : LATER,
    })
  }
  let open: (readonly [Cidr, ReadonlySet<string>])[] = []
  for (const [cidr, names] of sorted) {
    const equal = [...names]
    for (const [i, a] of equal.entries()) for (const b of equal.slice(i + 1)) tell(cidr, a, cidr, b)
    open = open.filter(([outer]) => cidrFamily(outer) === cidrFamily(cidr) && containsCidr(outer, cidr))
    for (const [outer, outerNames] of open) {
      for (const a of outerNames) for (const b of names) if (a !== b) tell(outer, a, cidr, b)
    }
    open.push([cidr, names])
  }
  return [...new Map(findings.map((finding) => [finding.key, finding])).values()]
}

function duplicateKeys(announcements: readonly NodeAnnouncement[]): Finding[] {
  const byKey = new Map<string, string[]>()
  for (const { publicKey, name } of announcements) {
    if (publicKey !== undefined) byKey.set(publicKey, [...(byKey.get(publicKey) ?? []), name])
  }
  return [...byKey.values()]
    .filter((names) => names.length > 1)
    .map((names): Finding => {
      const sorted = names.toSorted()
      return {
        key: `DuplicatePublicKey ${sorted.join(' ')}`,
        reason: 'DuplicatePublicKey',
        node: sorted.at(-1) as string,
        sentence: `nodes ${sorted.join(', ')} announce the same WireGuard key: peers reach only one of them`,
        remedy: `They were probably cloned from one disk: delete cilium_wg0.key in the agent's state folder of all but one and restart its agent`,
        holdMs: AT_ONCE,
      }
    })
}

function podCidrs({ nodes, announcements, config }: ClusterView): Finding[] {
  const findings: Finding[] = []
  const announced = new Map(announcements.map((node) => [node.name, node]))
  for (const node of nodes) {
    const { name } = node
    const own = config.ipam === 'kubernetes' ? node.podCidrs : (announced.get(name)?.podCidrs ?? [])
    if (config.ipam === 'kubernetes' && own.length === 0) {
      findings.push({
        key: `NoPodCIDR ${name}`,
        reason: 'NoPodCIDR',
        node: name,
        sentence: `node ${name} has no pod CIDR: no pod can start there`,
        remedy: 'Run the controller manager with --allocate-node-cidrs and --cluster-cidr; or its range is used up',
        holdMs: SOON,
      })
    }
    const outside = own.filter((cidr) => !config.clusterCidrs.some((cluster) => containsCidr(cluster, cidr)))
    if (outside.length > 0) {
      findings.push({
        key: `PodCIDROutsideCluster ${name} ${outside.join(' ')}`,
        reason: 'PodCIDROutsideCluster',
        node: name,
        sentence: `pod CIDR ${outside.join(', ')} of node ${name} is outside of pellicle-cluster-cidrs (${config.clusterCidrs.join(', ')}): it is not guarded against leaving in clear`,
        remedy: 'Add it to the value pellicle.clusterCIDRs and upgrade',
        holdMs: AT_ONCE,
      })
    }
    const says = announced.get(name)?.podCidrs
    if (config.ipam === 'kubernetes' && says !== undefined && says.toSorted().join() !== own.toSorted().join()) {
      findings.push({
        key: `PodCIDRNotAnnounced ${name}`,
        reason: 'PodCIDRNotAnnounced',
        node: name,
        sentence: `the agent of ${name} announces pod CIDR ${says.join(', ') || 'none'}, but the Node has ${own.join(', ') || 'none'}`,
        remedy: `Look into the log of the agent on ${name}`,
        holdMs: SOON,
      })
    }
  }
  return findings
}

/** What overlaps or is malformed is told in any case. */
const POOL_REASONS: Readonly<Record<string, FindingReason>> = {
  'ipam.pool.used-up': 'PodCIDRPoolUsedUp',
  'ipam.pool.outside': 'PodCIDROutsidePool',
  'ipam.pool.not-guarded': 'PodCIDRPoolNotGuarded',
}

function pool({ podCidrFaults }: ClusterView): Finding[] {
  return [...podCidrFaults].flatMap(([node, { code, message, remedy = '' }]): Finding[] => {
    const reason = POOL_REASONS[code]
    return reason === undefined
      ? []
      : [
          {
            key: `${reason} ${node}`,
            reason,
            node,
            sentence: message,
            remedy,
            holdMs: code === 'ipam.pool.not-guarded' ? LATER : AT_ONCE,
          },
        ]
  })
}

function malformed({ nodes, announcements }: ClusterView): Finding[] {
  return [...nodes, ...announcements].flatMap(({ name, problems }) =>
    problems.map(
      (problem): Finding => ({
        key: `MalformedNode ${name} ${problem.field ?? problem.message}`,
        reason: 'MalformedNode',
        node: name,
        sentence: problem.message,
        remedy: problem.remedy ?? `Correct the object of ${name}`,
        holdMs: SOON,
      }),
    ),
  )
}

function agents({ nodes, announcements, config }: ClusterView): Finding[] {
  const findings: Finding[] = []
  const announced = new Map(announcements.map((node) => [node.name, node]))
  for (const { name } of nodes) {
    const says = announced.get(name)
    if (says === undefined) {
      findings.push({
        key: `NoAgent ${name}`,
        reason: 'NoAgent',
        node: name,
        sentence: `node ${name} has no CiliumNode: its agent has not announced it, and its pods cannot be reached`,
        remedy: `Look at the pod of DaemonSet cilium on ${name}`,
        holdMs: LATER,
      })
    } else if (config.encryption === 'wireguard' && says.publicKey === undefined) {
      findings.push({
        key: `NoPublicKey ${name}`,
        reason: 'NoPublicKey',
        node: name,
        sentence: `node ${name} announces no WireGuard key: once the others are closed it is unreachable`,
        remedy: `Look into the log of the agent on ${name}`,
        holdMs: LATER,
      })
    } else if (config.encryption === 'ipsec' && (says.ipsec?.receives.length ?? 0) === 0) {
      findings.push({
        key: `NoIPsecKey ${name}`,
        reason: 'NoIPsecKey',
        node: name,
        sentence: `node ${name} receives by no IPsec key: once the others are closed it is unreachable`,
        remedy: `Is there a key (cilium encryption key-status)? Then look into the log of the agent on ${name}`,
        holdMs: LATER,
      })
    }
  }
  return findings
}

/** The key holds who stands where: any step of anyone makes it another finding, and the time starts again. */
function transition({ announcements, config }: ClusterView): Finding[] {
  const goal = config.encryption === 'none' ? CLEAR : CLOSED
  const levels = announcements.map(({ name, announcement }) => ({ name, level: announcement?.level ?? CLEAR }))
  const behind = levels.filter(({ level }) => level !== goal)
  if (behind.length === 0) return []
  // whoever is farthest away holds the others up
  const distance = (level: number) => Math.abs(goal - level)
  const farthest = Math.max(...behind.map(({ level }) => distance(level)))
  const blocking = behind.filter(({ level }) => distance(level) === farthest).map(({ name }) => name)
  const [first] = blocking.toSorted() as [string]
  const shown = blocking.slice(0, 5).join(', ') + (blocking.length > 5 ? ` and ${blocking.length - 5} more` : '')
  return [
    {
      key: `TransitionStalled ${levels
        .map(({ name, level }) => `${name}=${level}`)
        .toSorted()
        .join(' ')}`,
      reason: 'TransitionStalled',
      node: first,
      sentence: `turning encryption ${goal === CLOSED ? 'on' : 'off'} does not go on: ${behind.length} of ${levels.length} nodes are not done, waiting for ${shown}`,
      remedy: `Look into the log of the agent on ${first}; if the node is lost, delete its Node`,
      holdMs: LATER,
    },
  ]
}
