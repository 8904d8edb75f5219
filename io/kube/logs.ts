import { PODS } from '#core/api/resources.ts'
import type { KubeClient, Scope } from './client.ts'

export interface LogOptions extends Scope {
  readonly container?: string
  /** Go on with what comes. */
  readonly follow?: boolean
  /** Of the container that ran before. */
  readonly previous?: boolean
  readonly tailLines?: number
  readonly sinceSeconds?: number
}

/** A container's log, line by line, without line ends. */
export async function* logs(
  client: KubeClient,
  pod: string,
  options: LogOptions = {},
): AsyncGenerator<string, void, undefined> {
  const scope = options.namespace === undefined ? {} : { namespace: options.namespace }
  const response = await client.open({
    method: 'GET',
    path: client.objectPath(PODS, pod, scope, 'log'),
    action: `log of Pod ${pod}`,
    signal: options.signal,
    query: {
      container: options.container,
      follow: options.follow,
      previous: options.previous,
      tailLines: options.tailLines,
      sinceSeconds: options.sinceSeconds,
    },
  })
  try {
    let rest = ''
    for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
    if (rest !== '') yield rest
  } finally {
    response.destroy()
  }
}
