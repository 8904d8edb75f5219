import { z } from 'zod'
import { Fault } from '#core/fault/fault.ts'
import { exchange } from './line-socket.ts'

/** Agent → supervisor (docs/protocol/supervisor.md), a connection for each question: it may be restarted between two. */
export class SupervisorClient {
  readonly path: string
  readonly #timeoutMs: number

  constructor(path: string, timeoutMs = 30_000) {
    this.path = path
    this.#timeoutMs = timeoutMs
  }

  addDevice(device: SupervisedDevice): Promise<unknown> {
    return this.#ask('device.add', { device })
  }

  /** A device that is not there is as good as removed. */
  async removeDevice(name: string): Promise<void> {
    try {
      await this.#ask('device.remove', { name })
    } catch (error) {
      if (!(error instanceof Fault && /(unknown|missing|not-?found|none)$/.test(error.code))) throw error
    }
  }

  /** Another instance, and so another boot id; false: a supervisor of an earlier release, which cannot. */
  async renewDevice(name: string): Promise<boolean> {
    try {
      await this.#ask('device.renew', { name })
      return true
    } catch (error) {
      if (error instanceof Fault && error.code === 'datapath.request.unknown') return false
      throw error
    }
  }

  async status(): Promise<SupervisorStatus> {
    return statusSchema.parse(await this.#ask('status', {}))
  }

  async #ask(op: string, fields: object): Promise<unknown> {
    const line = `${JSON.stringify({ id: 1, op, ...fields })}\n`
    let text: string
    try {
      text = await exchange(this.path, line, (answer) => answer.includes('\n'), this.#timeoutMs)
    } catch (error) {
      throw new Fault('datapath.supervisor.away', `the supervisor does not answer at ${this.path}`, {
        field: this.path,
        remedy: 'kubectl -n kube-system get pods -l k8s-app=pellicle-keeper says whether it runs on this node.',
        cause: error,
      })
    }
    const parsed = answerSchema.safeParse(json(text))
    if (!parsed.success) throw new Fault('datapath.protocol', `the supervisor's answer to ${op} makes no sense`)
    const answer = parsed.data
    if (answer.ok) return answer
    const { code, message, remedy } = answer
    throw new Fault(`datapath.${code}`, `${op}: ${message}`, remedy === undefined || remedy === '' ? {} : { remedy })
  }
}

export interface SupervisedDevice {
  readonly kind: DeviceKind
  readonly name: string
  readonly mtu: number
  /** Of WireGuard, or of ESP in UDP. */
  readonly listenPort: number
  readonly mark: number
  /** False: whoever sets it up silences it before, so that the kernel sends nothing of its own by it. Standard: true. */
  readonly up?: boolean
}

type DeviceKind = 'wireguard' | 'ipsec'

const answerSchema = z.discriminatedUnion('ok', [
  z.looseObject({ ok: z.literal(true) }),
  z.looseObject({
    ok: z.literal(false),
    code: z.string(),
    message: z.string(),
    remedy: z
      .string()
      .nullish()
      .transform((remedy) => remedy ?? undefined),
  }),
])

/** `pid` is null while it is being started. */
const processSchema = z.looseObject({ pid: z.number().nullable(), restarts: z.number() })

const statusSchema = z.looseObject({
  version: z.string(),
  devices: z.array(
    z.looseObject({
      name: z.string(),
      kind: z.string().optional(),
      engine: processSchema.nullish(),
      keeper: processSchema.nullish(),
    }),
  ),
})
export type SupervisorStatus = z.infer<typeof statusSchema>

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
