import type { AgentStatus } from '#core/status/agent-status.ts'
import { VERSION } from '#core/version/version.ts'
import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput, versions } from '../output.ts'

export async function version(this: DbgContext, flags: OutputFlags): Promise<void> {
  const daemon = ((await this.agent.get('/v1/healthz')) as AgentStatus).pellicle['cilium-version']
  const text =
    flags.output === undefined
      ? `Client: ${VERSION}\nDaemon: ${daemon}\n`
      : await formatOutput(flags.output, versions(daemon))
  this.process.stdout.write(text)
}
