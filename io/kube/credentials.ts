import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { kubeFault } from './errors.ts'
import type { Connection, ExecSpec, Pem } from './kubeconfig.ts'

/** What goes into a request to prove who we are. */
export interface Identity {
  readonly authorization: string | undefined
  /** PEM. */
  readonly cert: string | undefined
  readonly key: string | undefined
}

/** Files may change at any time; reading them once a minute is what kubelet's renewal (at 80 % of an hour) needs. */
const FILE_AGE_MS = 60_000
const EXEC_TIMEOUT_MS = 60_000

const execCredentialSchema = z.object({
  status: z.object({
    expirationTimestamp: z.string().nullish(),
    token: z.string().nullish(),
    clientCertificateData: z.string().nullish(),
    clientKeyData: z.string().nullish(),
  }),
})

/** Knows the identity of one connection, and fetches it anew when it is old or was refused. */
export class Credentials {
  readonly #connection: Connection
  readonly #now: () => number
  #identity: Identity | undefined
  #goodUntil = 0
  #pending: Promise<Identity> | undefined

  constructor(connection: Connection, now: () => number = Date.now) {
    this.#connection = connection
    this.#now = now
  }

  /** @throws Fault `kube.credential` */
  async identity(): Promise<Identity> {
    if (this.#identity !== undefined && this.#now() < this.#goodUntil) return this.#identity
    // a hundred requests at once start one plugin, not a hundred
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  /** The server refused it (401). */
  invalidate(): void {
    this.#goodUntil = 0
  }

  async #fetch(): Promise<Identity> {
    const { credential, certificate } = this.#connection
    const own = {
      cert: certificate === undefined ? undefined : await readPem(certificate.cert),
      key: certificate === undefined ? undefined : await readPem(certificate.key),
    }
    let authorization: string | undefined
    this.#goodUntil = this.#now() + FILE_AGE_MS
    switch (credential.kind) {
      case 'none':
        break
      case 'token':
        authorization = `Bearer ${credential.token}`
        break
      case 'token-file':
        authorization = `Bearer ${(await readText(credential.file)).trim()}`
        break
      case 'basic': {
        const pair = Buffer.from(`${credential.username}:${credential.password}`).toString('base64')
        authorization = `Basic ${pair}`
        break
      }
      case 'exec': {
        const { status } = await this.#runPlugin(credential.spec)
        if (status.token) authorization = `Bearer ${status.token}`
        const until = status.expirationTimestamp ? Date.parse(status.expirationTimestamp) - 10_000 : Number.NaN
        this.#goodUntil = Number.isNaN(until) ? Number.POSITIVE_INFINITY : until
        if (status.clientCertificateData && status.clientKeyData) {
          own.cert = status.clientCertificateData
          own.key = status.clientKeyData
        }
        break
      }
    }
    this.#identity = { authorization, ...own }
    return this.#identity
  }

  async #runPlugin(spec: ExecSpec): Promise<z.infer<typeof execCredentialSchema>> {
    const { server, ca, insecure } = this.#connection
    const interactive = spec.interactive && process.stdin.isTTY
    const cluster = {
      server: server.href.replace(/\/$/, ''),
      'insecure-skip-tls-verify': insecure,
      ...(ca === undefined ? {} : { 'certificate-authority-data': Buffer.from(await readPem(ca)).toString('base64') }),
    }
    const info = {
      apiVersion: spec.apiVersion,
      kind: 'ExecCredential',
      spec: { interactive, ...(spec.provideClusterInfo ? { cluster } : {}) },
    }
    const complain = (sentence: string, cause?: unknown) =>
      kubeFault('kube.credential', `credential plugin ${spec.command}: ${sentence}`, {
        field: 'exec.command',
        ...(cause === undefined ? {} : { cause }),
        ...(spec.installHint === undefined ? {} : { remedy: spec.installHint.trim() }),
      })
    const output = await new Promise<string>((resolve, reject) => {
      const child = spawn(spec.command, spec.args, {
        env: { ...process.env, ...spec.env, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
        // its own words go to our terminal: that is where logins are asked for
        stdio: [interactive ? 'inherit' : 'ignore', 'pipe', 'inherit'],
        timeout: EXEC_TIMEOUT_MS,
      })
      let text = ''
      child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      child.on('error', (error) => reject(complain('it could not be started', error)))
      child.on('close', (code, signal) => {
        if (code === 0) resolve(text)
        else reject(complain(signal === null ? `it ended with ${code}` : `it was ended by ${signal}`))
      })
    })
    let json: unknown
    try {
      json = JSON.parse(output)
    } catch {
      throw complain('it printed no JSON')
    }
    const parsed = execCredentialSchema.safeParse(json)
    if (!parsed.success) throw complain('it printed no ExecCredential with a status')
    return parsed.data
  }
}

/** @throws Fault `kube.credential` */
export async function readPem(pem: Pem): Promise<string> {
  return 'pem' in pem ? pem.pem : readText(pem.file)
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw kubeFault('kube.credential', `${file} cannot be read`, { field: file, cause: error })
  }
}
