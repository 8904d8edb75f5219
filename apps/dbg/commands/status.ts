import { type AgentStatus, formatAgentStatus } from '#core/status/agent-status.ts'
import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput } from '../output.ts'

export interface StatusFlags extends OutputFlags {
  readonly verbose: boolean
  readonly brief: boolean
}

export async function status(this: DbgContext, flags: StatusFlags): Promise<void> {
  const answer = (await this.agent.get('/v1/healthz')) as AgentStatus
  const { stdout } = this.process
  if (flags.output !== undefined) stdout.write(await formatOutput(flags.output, answer))
  else if (flags.brief) stdout.write(`${answer.cilium.state === 'Ok' ? 'OK' : (answer.cilium.msg ?? 'error')}\n`)
  else stdout.write(formatAgentStatus(answer, { verbose: flags.verbose }))
  // as Cilium's: whoever reads the JSON finds the state there
  if (flags.output === undefined && answer.cilium.state === 'Failure') this.process.exitCode = 1
}
