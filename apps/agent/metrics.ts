import type { AgentStatus, PeerStatus } from '#core/status/agent-status.ts'
import { XFRM, XFRM_OF_KERNEL, xfrmMetric } from '#core/status/xfrm.ts'
import { Metrics } from '#io/telemetry/metrics.ts'

const PEER_STATES: readonly PeerStatus['state'][] = ['ok', 'idle', 'no answer', 'no handshake', 'no key', 'not heard']

/** What the agent tells Prometheus, made from its status at each scrape. */
export function agentMetrics(status: () => Promise<AgentStatus>): Metrics {
  const metrics = new Metrics()
  const up = metrics.gauge('pellicle_agent_ok', '1 when this node is programmed as planned')
  const level = metrics.gauge('pellicle_encryption_level', 'How far this node is from clear (0) to closed (3)')
  const peers = metrics.gauge('pellicle_peers', 'Other nodes, by the state of their tunnel', ['state'])
  const problems = metrics.gauge('pellicle_problems', 'Things that keep the plan from being what the cluster asks for')
  const endpoints = metrics.gauge('pellicle_endpoints', 'Addresses that pods of this node and the node itself hold')
  const failures = metrics.gauge('pellicle_controller_failures', 'Failures in a row', ['controller'])
  const drops = metrics.gauge('pellicle_dropped_packets', 'Packets that ended in a named counter, since boot', [
    'where',
    'reason',
  ])
  const upkeep = metrics.gauge('pellicle_network_repairs', 'Put back after somebody else had changed it')
  const lost = metrics.gauge('pellicle_kernel_events_lost', 'Times that the kernel told more than could be read')
  const xfrm = metrics.gauge('cilium_ipsec_xfrm_error', 'Total number of xfrm errors', ['type', 'error'])
  const keysInUse = metrics.gauge('cilium_ipsec_keys', 'Number of IPsec keys in use')
  const keyProblem = metrics.gauge('pellicle_ipsec_key_problem', '1 when the newest key text is missing or wrong')
  const reachable = metrics.gauge('pellicle_health_nodes', 'Nodes whose agents were asked by internal IP', ['answer'])
  const memory = metrics.gauge('pellicle_agent_resident_memory_bytes', 'Resident memory of the agent')
  metrics.onScrape(async () => {
    const { cilium, pellicle, ipam, controllers, encryption } = await status()
    const { ipsec } = encryption
    if (ipsec !== undefined) {
      keysInUse.set(ipsec['keys-in-use'] ?? 0)
      for (const name of Object.keys({ ...XFRM, ...XFRM_OF_KERNEL }))
        xfrm.set(ipsec['xfrm-errors']?.[name] ?? 0, xfrmMetric(name))
    }
    if (pellicle.rotation !== undefined) keyProblem.set(pellicle.rotation.problem === undefined ? 0 : 1)
    if (pellicle.health !== undefined) {
      reachable.set(pellicle.health.reachable, { answer: 'yes' })
      reachable.set(pellicle.health.total - pellicle.health.reachable, { answer: 'no' })
    }
    up.set(cilium.state === 'Ok' ? 1 : 0)
    level.set(pellicle.level)
    for (const state of PEER_STATES) {
      peers.set(pellicle.peers.filter((peer) => peer.state === state).length, { state })
    }
    problems.set(pellicle.problems.length)
    endpoints.set(Object.keys(ipam.allocations).length)
    for (const { where, name, packets } of pellicle.drops) drops.set(packets, { where, reason: name })
    if (pellicle.upkeep !== undefined) {
      upkeep.set(pellicle.upkeep.restored)
      lost.set(pellicle.upkeep.lostEvents)
    }
    for (const controller of controllers) {
      failures.set(controller.status?.['consecutive-failure-count'] ?? 0, { controller: controller.name })
    }
    memory.set(process.memoryUsage.rss())
  })
  return metrics
}
