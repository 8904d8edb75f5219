import type { AgentStatus } from '#core/status/agent-status.ts'
import { formatEncryptStatus } from '#core/status/encryption-status.ts'
import type { OutputFlags } from '../app.ts'
import type { DbgContext } from '../context.ts'
import { formatOutput } from '../output.ts'

export async function encryptStatus(this: DbgContext, flags: OutputFlags): Promise<void> {
  const { encryption } = (await this.agent.get('/v1/healthz')) as AgentStatus
  const text =
    flags.output === undefined ? formatEncryptStatus(encryption) : await formatOutput(flags.output, encryption)
  this.process.stdout.write(text)
}
