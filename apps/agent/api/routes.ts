import type { IpsecState } from '#core/datapath/datapath.ts'
import { Fault } from '#core/fault/fault.ts'
import { VERSION } from '#core/version/version.ts'
import type { Agent } from '../agent.ts'
import { endpointStatus } from '../endpoint-status.ts'
import type { Endpoint } from '../endpoints.ts'
import { describeAssociations } from '../ipsec-dump.ts'
import { encryptionStatus, makeStatus, type StatusInputs } from '../status.ts'
import { type Routes, TextAnswer } from './server.ts'

/** What the answers on the unix socket are made of. */
export interface AnswerSources {
  status(): Promise<StatusInputs>
  endpoints(): readonly Endpoint[]
  /** Undefined: it is starting. */
  agent(): Agent | undefined
  observeIpsec(device: string): Promise<IpsecState | undefined>
  /** Names what was removed. */
  cleanUp(): Promise<readonly string[]>
}

/** What `cilium-dbg` asks; the socket is root's. */
export function agentRoutes(sources: AnswerSources): Routes {
  return {
    'GET /v1/healthz': async () => makeStatus(await sources.status()),
    'GET /v1/debuginfo': async () => {
      const inputs = await sources.status()
      const { applied } = inputs
      return {
        'cilium-version': VERSION,
        encryption: encryptionStatus(inputs, true),
        status: makeStatus(inputs),
        snapshot: applied?.snapshot,
        plan: applied?.plan,
        endpoints: sources.endpoints(),
      }
    },
    'GET /v1/endpoint': async () => sources.endpoints().map(endpointStatus),
    'GET /v1/encrypt/xfrm': async () => await associations(sources, false),
    'GET /v1/encrypt/xfrm-with-keys': async () => await associations(sources, true),
    'POST /v1/encrypt/flush': async (query) => await flush(sources.agent(), query),
    'POST /v1/cleanup': async () => ({ removed: await sources.cleanUp() }),
  }
}

/** @param unhealthy why kubelet should start the agent again; undefined when it should not */
export function healthRoutes(unhealthy: () => string | undefined): Routes {
  const answer = async () => {
    const reason = unhealthy()
    return reason === undefined ? new TextAnswer('ok\n') : new TextAnswer(`${reason}\n`, undefined, 503)
  }
  return { 'GET /healthz': answer }
}

export async function metricsRoutes(status: () => Promise<StatusInputs>): Promise<Routes> {
  const { agentMetrics } = await import('../metrics.ts')
  const metrics = agentMetrics(async () => makeStatus(await status()))
  return { 'GET /metrics': async () => new TextAnswer(await metrics.text(), metrics.contentType) }
}

async function associations(sources: AnswerSources, withKeys: boolean): Promise<object> {
  const agent = sources.agent()
  const ipsec = agent?.applied?.plan.ipsec
  const state = ipsec === undefined ? undefined : await sources.observeIpsec(ipsec.name)
  return describeAssociations(
    state,
    withKeys && ipsec !== undefined ? { ipsec, keys: agent?.ipsec.keys ?? [] } : undefined,
  )
}

async function flush(agent: Agent | undefined, query: URLSearchParams): Promise<object> {
  if (agent === undefined) throw new Fault('agent.not-ready', 'the agent is starting')
  const spi = query.get('spi')
  const node = query.get('node')
  return { removed: await agent.flush({ spi: spi === null ? undefined : Number(spi), node: node ?? undefined }) }
}
