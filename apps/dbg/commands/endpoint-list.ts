import { type EndpointStatus, formatEndpoints } from '#core/status/endpoint-status.ts'
import type { DbgContext } from '../context.ts'
import type { OutputFlags } from '../output.ts'
import { formatOutput } from '../output.ts'

export async function endpointList(this: DbgContext, flags: OutputFlags): Promise<void> {
  const endpoints = (await this.agent.get('/v1/endpoint')) as readonly EndpointStatus[]
  const text = flags.output === undefined ? formatEndpoints(endpoints) : await formatOutput(flags.output, endpoints)
  this.process.stdout.write(text)
}
