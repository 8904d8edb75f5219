import { type AgentStatus, formatDrops } from '#core/status/agent-status.ts'
import { formatColumns } from '#core/status/columns.ts'
import { isUnusual } from '#core/status/drops.ts'
import { formatEncryptStatus } from '#core/status/encryption-status.ts'
import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput } from '../output.ts'

export async function encryptStatus(this: DbgContext, flags: OutputFlags): Promise<void> {
  const { encryption, pellicle } = (await this.agent.get('/v1/healthz')) as AgentStatus
  const drops = formatColumns(formatDrops(pellicle.drops.filter(isUnusual)))
  const text =
    flags.output === undefined ? formatEncryptStatus(encryption) + drops : await formatOutput(flags.output, encryption)
  this.process.stdout.write(text)
}
