import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { SECRETS } from '#core/api/resources.ts'
import { Fault } from '#core/fault/fault.ts'
import type { KubeClient, Scope } from '#io/kube/client.ts'

/** A Helm release as its newest Secret tells it: read without running Helm. */
export interface Release {
  readonly name: string
  readonly namespace: string
  readonly revision: number
  /** `deployed`, `failed`, `pending-install`, `pending-upgrade`, `uninstalling`, … */
  readonly status: string
  readonly chart: {
    readonly name: string
    readonly version: string
    readonly appVersion: string | undefined
    readonly annotations: Readonly<Record<string, string>>
  }
  /** Values that were given, without the chart's own. */
  readonly values: Readonly<Record<string, unknown>>
}

const gunzipAsync = promisify(gunzip)

/** The newest revision, whatever its status; undefined when there is none. */
export async function currentRelease(client: KubeClient, name: string, scope: Scope): Promise<Release | undefined> {
  const secrets = await client.listAll(SECRETS, { ...scope, labelSelector: `owner=helm,name=${name}` })
  const newest = secrets.items.reduce<(typeof secrets.items)[number] | undefined>(
    (best, secret) => (revisionOf(secret) > revisionOf(best) ? secret : best),
    undefined,
  )
  if (newest === undefined) return undefined
  return await decodeRelease(newest.data?.['release'] ?? '', newest.metadata.name)
}

/** @param data of the Secret: base64 of base64 of gzip of JSON (Helm 3's storage driver) */
export async function decodeRelease(data: string, secret: string): Promise<Release> {
  try {
    const packed = Buffer.from(Buffer.from(data, 'base64').toString('latin1'), 'base64')
    const text = packed[0] === 0x1f && packed[1] === 0x8b ? await gunzipAsync(packed) : packed
    const release = JSON.parse(text.toString('utf8')) as RawRelease
    const metadata = release.chart.metadata
    return {
      name: release.name,
      namespace: release.namespace,
      revision: release.version,
      status: release.info.status,
      chart: {
        name: metadata.name,
        version: metadata.version,
        appVersion: metadata.appVersion,
        annotations: metadata.annotations ?? {},
      },
      values: release.config ?? {},
    }
  } catch (error) {
    throw new Fault('helm.release', `Secret ${secret} holds no Helm release that can be read`, {
      field: secret,
      remedy: 'Look at it with helm history, and delete it if Helm cannot read it either',
      cause: error,
    })
  }
}

interface RawRelease {
  readonly name: string
  readonly namespace: string
  readonly version: number
  readonly info: { readonly status: string }
  readonly chart: {
    readonly metadata: {
      readonly name: string
      readonly version: string
      readonly appVersion?: string
      readonly annotations?: Readonly<Record<string, string>>
    }
  }
  readonly config?: Readonly<Record<string, unknown>> | null
}

function revisionOf(
  secret: { readonly metadata: { readonly labels?: Readonly<Record<string, string>> | undefined } } | undefined,
): number {
  return Number(secret?.metadata.labels?.['version'] ?? 0)
}
