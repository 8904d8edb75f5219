import { Fault } from '#core/fault/fault.ts'

/** The `Status` object that the API server answers failures with. */
export interface Status {
  readonly kind?: string
  readonly message?: string
  readonly reason?: string
  readonly code?: number
  readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message?: string }[] }
}

/** Fault codes of this folder. */
export type KubeCode =
  | 'kube.not-found'
  | 'kube.already-exists'
  | 'kube.conflict'
  | 'kube.expired'
  | 'kube.unauthorized'
  | 'kube.forbidden'
  | 'kube.invalid'
  | 'kube.too-many-requests'
  | 'kube.unavailable'
  | 'kube.timeout'
  | 'kube.unreachable'
  | 'kube.tls'
  | 'kube.protocol'
  | 'kube.refused'
  | 'kube.config'
  | 'kube.credential'
  | 'kube.exec'

export function hasCode(error: unknown, code: KubeCode): boolean {
  return error instanceof Fault && error.code === code
}

export function kubeFault(
  code: KubeCode,
  message: string,
  options: { field?: string; remedy?: string; cause?: unknown } = {},
): Fault {
  return new Fault(code, message, options)
}

interface Kind {
  readonly code: KubeCode
  readonly remedy?: string
}

const BY_REASON: Readonly<Record<string, Kind>> = {
  NotFound: { code: 'kube.not-found' },
  AlreadyExists: { code: 'kube.already-exists' },
  Conflict: { code: 'kube.conflict', remedy: 'Read it again and repeat the change' },
  Gone: { code: 'kube.expired' },
  Expired: { code: 'kube.expired' },
  Unauthorized: {
    code: 'kube.unauthorized',
    remedy: 'Check the credentials: token or client certificate may have run out',
  },
  Forbidden: {
    code: 'kube.forbidden',
    remedy: 'Ask for a role that allows this, or check the RBAC objects of the chart',
  },
  Invalid: { code: 'kube.invalid' },
  BadRequest: { code: 'kube.invalid' },
  TooManyRequests: { code: 'kube.too-many-requests', remedy: 'The API server is busy: try again later' },
  ServiceUnavailable: { code: 'kube.unavailable', remedy: 'Look at the API server' },
  InternalError: { code: 'kube.unavailable', remedy: 'Look into the log of the API server' },
  Timeout: { code: 'kube.timeout' },
  ServerTimeout: { code: 'kube.timeout' },
}

const BY_HTTP: Readonly<Record<number, Kind>> = {
  400: BY_REASON['BadRequest'] as Kind,
  401: BY_REASON['Unauthorized'] as Kind,
  403: BY_REASON['Forbidden'] as Kind,
  404: BY_REASON['NotFound'] as Kind,
  409: BY_REASON['Conflict'] as Kind,
  410: BY_REASON['Gone'] as Kind,
  422: BY_REASON['Invalid'] as Kind,
  429: BY_REASON['TooManyRequests'] as Kind,
  500: BY_REASON['InternalError'] as Kind,
  503: BY_REASON['ServiceUnavailable'] as Kind,
  504: BY_REASON['Timeout'] as Kind,
}

/** @param action what was tried on which object, e.g. `get node kind-worker` */
export function statusFault(action: string, http: number, status: Status | undefined): Fault {
  const kind = BY_REASON[status?.reason ?? ''] ?? BY_HTTP[status?.code ?? http] ?? { code: 'kube.refused' as const }
  if (http === 404 && status === undefined) {
    return kubeFault('kube.not-found', `${action}: the API server does not know this kind`, {
      remedy: 'Check that the CRDs of the chart are installed',
    })
  }
  const field = status?.details?.causes?.[0]?.field
  return kubeFault(kind.code, `${action}: ${status?.message ?? `HTTP status ${http}`}`, {
    ...(field === undefined ? {} : { field }),
    ...(kind.remedy === undefined ? {} : { remedy: kind.remedy }),
  })
}

const TLS_CODES =
  /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|DEPTH_ZERO|SELF_SIGNED|ERR_OSSL|HOSTNAME_MISMATCH|INVALID_CA|EPROTO)/

/** A failure below HTTP, with the server named. An abort by the caller passes as it is. */
export function networkFault(action: string, server: string, error: unknown): unknown {
  if (error instanceof Fault || (error instanceof Error && error.name === 'AbortError')) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (TLS_CODES.test(code)) {
    return kubeFault('kube.tls', `${action}: no trusted connection to ${server}`, {
      cause: error,
      remedy: 'Check certificate-authority and client certificate of the kubeconfig',
    })
  }
  return kubeFault('kube.unreachable', `${action}: ${server} cannot be reached`, {
    cause: error,
    remedy: 'Check that the API server runs and that this address is the right one',
  })
}
