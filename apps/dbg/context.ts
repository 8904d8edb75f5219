import type { StricliProcess } from '@stricli/core'

/** What a command may touch; tests bring their own. */
export interface DbgContext {
  readonly process: StricliProcess
  /** The name it was called by: `cilium`, `cilium-dbg` or `pellicle-dbg`. */
  readonly program: string
  readonly agent: AgentClient
}

/** Questions to the agent of this node. Rejects with Fault `agent.away` when it does not answer. */
export interface AgentClient {
  get(path: string): Promise<unknown>
  post(path: string): Promise<unknown>
}
