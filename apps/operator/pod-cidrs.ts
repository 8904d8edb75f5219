import { CILIUM_NODES, type CiliumNode, operatorError } from '#core/api/cilium-node.ts'
import type { AgentConfig } from '#core/api/config.ts'
import { CIDRS } from '#core/api/config-fields.ts'
import { ANNOTATION } from '#core/api/names.ts'
import { PODS } from '#core/api/resources.ts'
import { describeFault, type Fault } from '#core/fault/fault.ts'
import { type Ip, parseIp } from '#core/ip/address.ts'
import type { Cidr } from '#core/ip/cidr.ts'
import { type Allotment, ClusterPool } from '#core/ipam/cluster-pool.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { hasCode } from '#io/kube/errors.ts'
import type { Log } from '#io/telemetry/log.ts'
import type { OperatorMetrics } from './metrics.ts'

export interface PodCidrsOptions {
  readonly client: KubeClient
  readonly config: Pick<AgentConfig, 'pool' | 'ipv4' | 'ipv6'>
  readonly log: Log
  readonly metrics: OperatorMetrics
}

/** So many CiliumNodes are written at once. */
const AT_ONCE = 8

/**
 * IPAM mode `cluster-pool`: writes on each CiliumNode which pod CIDRs its node has, and in its status why not. What is
 * given is decided in core/ipam; here it is written, only over the version that was looked at: what somebody else changed
 * since is looked at again.
 */
export class PodCidrs {
  readonly #options: PodCidrsOptions
  readonly #pool: ClusterPool
  #knowsPods = false
  #faults: ReadonlyMap<string, Fault> = new Map()

  constructor(options: PodCidrsOptions) {
    this.#options = options
    const { pool, ipv4, ipv6 } = options.config
    this.#pool = new ClusterPool({ ...(ipv4 ? { 4: pool[4] } : {}), ...(ipv6 ? { 6: pool[6] } : {}) })
  }

  /** By node, what is wrong since the last {@link look}. */
  get faults(): ReadonlyMap<string, Fault> {
    return this.#faults
  }

  /**
   * @param ciliumNodes all; together with `nodes`, the names of the Nodes, it must be a synced copy
   */
  async look(ciliumNodes: readonly CiliumNode[], nodes: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const { metrics } = this.#options
    const without = ciliumNodes.some(({ spec }) => (spec.ipam?.podCIDRs ?? []).length === 0)
    if (without && !this.#knowsPods && !(await this.#readPods(nodes, signal))) return
    const allotted = this.#pool.allot(
      ciliumNodes.map(({ metadata: { name, creationTimestamp = '', deletionTimestamp, annotations }, spec }) => ({
        name,
        since: creationTimestamp,
        podCidrs: spec.ipam?.podCIDRs ?? [],
        exists: nodes.has(name) && deletionTimestamp === undefined,
        guards: guardsOf(annotations),
      })),
      (name) => nodes.has(name),
    )
    this.#faults = new Map([...allotted].flatMap(([name, { fault }]) => (fault === undefined ? [] : [[name, fault]])))
    for (const { family, used, capacity } of this.#pool.usage) {
      metrics.podCidrs.set({ family: `IPv${family}` }, Number(used))
      metrics.podCidrCapacity.set({ family: `IPv${family}` }, Number(capacity))
    }
    const writes = ciliumNodes.flatMap((node) => {
      const allotment = allotted.get(node.metadata.name)
      return allotment === undefined || saysAll(node, allotment) ? [] : [{ node, allotment }]
    })
    for (let from = 0; from < writes.length && !signal.aborted; from += AT_ONCE) {
      const some = writes.slice(from, from + AT_ONCE)
      await Promise.all(some.map(async ({ node, allotment }) => await this.#write(node, allotment, signal)))
    }
  }

  /** Once, before anything is given: later it is known who had what. False: nothing may be given yet. */
  async #readPods(nodes: ReadonlySet<string>, signal: AbortSignal): Promise<boolean> {
    const { client, log } = this.#options
    try {
      const { items } = await client.listAll(PODS, { allNamespaces: true, signal })
      const running = new Map<string, Ip[]>()
      for (const { spec, status } of items) {
        const name = spec?.nodeName
        if (name === undefined || !nodes.has(name) || spec?.hostNetwork === true) continue
        // it has ended, and still shows the address that it had
        if (status?.phase === 'Succeeded' || status?.phase === 'Failed') continue
        const ips = (status?.podIPs ?? []).flatMap(({ ip }) => parseIp(ip ?? '') ?? [])
        running.set(name, [...(running.get(name) ?? []), ...ips])
      }
      this.#pool.keepFor(running)
      this.#knowsPods = true
      return true
    } catch (error) {
      if (!signal.aborted) log.warn('no pod CIDR is given before the pods are known', { error: describeFault(error) })
      return false
    }
  }

  async #write(node: CiliumNode, { podCidrs, fault }: Allotment, signal: AbortSignal): Promise<void> {
    const { client, log } = this.#options
    const { name, uid, resourceVersion } = node.metadata
    try {
      let metadata = { uid, resourceVersion }
      if (podCidrs !== undefined) {
        const patch = { metadata, spec: { ipam: { podCIDRs: podCidrs } } }
        const written = await client.patch(CILIUM_NODES, name, patch, { signal })
        metadata = { uid, resourceVersion: written.metadata.resourceVersion }
        log.info('gave a node its pod CIDRs', { node: name, 'pod-cidrs': podCidrs.join(' ') })
      }
      const error = fault === undefined ? null : describeFault(fault)
      if (error !== (operatorError(node) ?? null)) {
        const patch = { metadata, status: { ipam: { 'operator-status': { error } } } }
        await client.patch(CILIUM_NODES, name, patch, { subresource: 'status', signal })
      }
    } catch (error) {
      if (signal.aborted) return
      // somebody wrote to it since, or deleted it: the watch tells, and it is looked at again
      if (hasCode(error, 'kube.conflict') || hasCode(error, 'kube.not-found')) {
        log.debug('pod CIDRs not written: the CiliumNode has changed', { node: name })
      } else {
        log.warn('pod CIDRs not written', { node: name, error: describeFault(error) })
      }
    }
  }
}

function guardsOf(annotations: Readonly<Record<string, string>> | undefined): readonly Cidr[] | undefined {
  const text = annotations?.[ANNOTATION.guards]
  // what is malformed guards nothing
  return text === undefined ? undefined : (CIDRS.parse(text) ?? [])
}

function saysAll(node: CiliumNode, { podCidrs, fault }: Allotment): boolean {
  const error = fault === undefined ? undefined : describeFault(fault)
  return podCidrs === undefined && error === operatorError(node)
}
