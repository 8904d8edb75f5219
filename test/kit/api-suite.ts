import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse } from 'yaml'
import { CILIUM_NODES } from '#core/api/cilium-node.ts'
import type { KubeObject } from '#core/api/object.ts'
import { CRDS } from '#core/api/resources.ts'
import type { KubeClient } from '#io/kube/client.ts'
import { type ApiServer, missingForApiServer, startApiServer } from './apiserver.ts'

/** Like `test`; skipped where the programs are missing. */
export type RealTest = (name: string, body: (t: TestContext) => Promise<void>) => void

/**
 * One API server with our CRD for all tests of the calling file.
 * @param begin is given it before the first test, and may make what the tests share
 */
export function apiSuite(begin: (made: { readonly server: ApiServer; readonly client: KubeClient }) => void): RealTest {
  const missing = missingForApiServer()
  let server: ApiServer | undefined
  before(async () => {
    if (missing !== undefined) return
    server = await startApiServer()
    const client = await server.client()
    const text = readFileSync(join(import.meta.dirname, '../../deploy/crds/ciliumnodes.yaml'), 'utf8')
    await client.apply(CRDS, parse(text) as KubeObject, { fieldManager: 'test' })
    await until(() => isEstablished(client))
    begin({ server, client })
  })
  after(async () => {
    await server?.stop()
  })
  return (name, body) => {
    test(name, async (t) => {
      if (missing !== undefined) t.skip(`needs ${missing}`)
      else await body(t)
    })
  }
}

/** No time limit of its own: the runner has one. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20)
}

async function isEstablished(client: KubeClient): Promise<boolean> {
  const crd = (await client.get(CRDS, `${CILIUM_NODES.plural}.${CILIUM_NODES.group}`)) as KubeObject & {
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] }
  }
  return crd.status?.conditions?.some(({ type, status }) => type === 'Established' && status === 'True') ?? false
}
