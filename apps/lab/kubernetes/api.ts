import { Agent, request } from 'node:https'
import { Fault } from '#core/fault/fault.ts'

/** The lab's own way to its API server: a handful of calls as administrator while the cluster is made. */
export interface LabApi {
  call(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<ApiAnswer>
  close(): void
}

interface ApiAnswer {
  readonly status: number
  readonly body: string
}

export interface ApiCredentials {
  readonly port: number
  readonly authority: string
  readonly certificate: string
  readonly key: string
}

export function openApi({ port, authority, certificate, key }: ApiCredentials): LabApi {
  const agent = new Agent({ keepAlive: true, ca: authority, cert: certificate, key, maxSockets: 8 })
  return {
    close: () => agent.destroy(),
    async call(method, path, body) {
      const text = body === undefined ? undefined : JSON.stringify(body)
      const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
      return await new Promise<ApiAnswer>((resolve, reject) => {
        const call = request(
          { host: '127.0.0.1', port, method, path, agent, headers: { 'content-type': type }, timeout: 10_000 },
          (response) => {
            const chunks: Buffer[] = []
            response.on('data', (chunk: Buffer) => chunks.push(chunk))
            response.on('error', reject)
            response.on('end', () => {
              resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() })
            })
          },
        )
        call.on('timeout', () => call.destroy(new Error('no answer within 10 s')))
        call.on('error', reject)
        call.end(text)
      })
    },
  }
}

/** Creates an object; one that is there already is left as it is. */
export async function create(api: LabApi, collection: string, object: unknown): Promise<void> {
  const { status, body } = await api.call('POST', collection, object)
  if (status === 201 || status === 409) return
  throw new Fault('lab.api', `the API server refused an object of ${collection} (${status}): ${body.slice(0, 500)}`)
}
