import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput } from '../output.ts'

export interface DumpFlags extends OutputFlags {
  readonly showKeys: boolean
}

/** Always for machines, as Cilium's. */
export async function dumpXfrm(this: DbgContext, flags: DumpFlags): Promise<void> {
  const answer = await this.agent.get(flags.showKeys ? '/v1/encrypt/xfrm-with-keys' : '/v1/encrypt/xfrm')
  this.process.stdout.write(await formatOutput(flags.output ?? { kind: 'json' }, answer))
}
