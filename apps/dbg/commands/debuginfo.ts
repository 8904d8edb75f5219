import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput } from '../output.ts'

/** Always for machines: Cilium's own default is Markdown, which nobody parses. */
export async function debuginfo(this: DbgContext, flags: OutputFlags): Promise<void> {
  const answer = await this.agent.get('/v1/debuginfo')
  this.process.stdout.write(await formatOutput(flags.output ?? { kind: 'json' }, answer))
}
