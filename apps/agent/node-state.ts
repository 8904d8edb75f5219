import { z } from 'zod'
import { type Ip, parseIp } from '#core/ip/address.ts'
import type { KeyFingerprint } from '#core/ipsec/key.ts'
import type { Announcement, Level } from '#core/transition/level.ts'
import type { JsonFile } from '#io/store/json-file.ts'
import type { EncryptionMode } from './plan-config.ts'

/** What this node must remember over a restart of its agent. Gone after a boot of the machine, as the kernel's state is. */
export interface NodeState {
  readonly version: 1
  /** core/transition: as it was last decided; what peers see follows it. */
  readonly announcement?: Announcement | undefined
  /** Milliseconds since the epoch: when that level was entered. */
  readonly since?: number | undefined
  /** How this node encrypts, for as long as it does (plan-config.ts). */
  readonly mode?: EncryptionMode | undefined
  /** What `mode` follows from (core/transition/mode.ts), decided as `announcement` is. */
  readonly stage?: Announcement | undefined
  /** Fingerprints of IPsec keys that this node has used and let go: none of them is taken again. Oldest first. */
  readonly retiredKeys?: readonly KeyFingerprint[] | undefined
  /** `CiliumInternalIP`s: kept, so that peers' neighbour entries stay right. */
  readonly internalIps: readonly Ip[]
  /** Addresses that rest after a pod has left, and where the search goes on: core/ipam, which checks them. */
  readonly ipam?: RememberedAddresses | undefined
}

export interface RememberedAddresses {
  readonly resting: readonly { readonly ip: string; readonly since: number }[]
  readonly next: readonly { readonly cidr: string; readonly offset: string }[]
}

const announcementSchema = z.object({
  level: z
    .int()
    .min(0)
    .max(3)
    .transform((level) => level as Level),
  epoch: z.int().min(0),
})

export const nodeStateSchema: z.ZodType<NodeState> = z.object({
  version: z.literal(1),
  announcement: announcementSchema.optional(),
  stage: announcementSchema.optional(),
  since: z.number().optional(),
  mode: z
    .object({
      type: z.enum(['wireguard', 'ipsec']),
      second: z.enum(['wireguard', 'ipsec']).optional(),
      shape: z.enum(['udp', 'esp', 'esp-in-vxlan', 'vxlan-in-esp']),
    })
    .optional(),
  retiredKeys: z
    .array(
      z
        .string()
        .regex(/^[0-9a-f]{16}$/)
        .transform((text) => text as KeyFingerprint),
    )
    .optional(),
  ipam: z
    .object({
      resting: z.array(z.object({ ip: z.string(), since: z.number() })),
      next: z.array(z.object({ cidr: z.string(), offset: z.string() })),
    })
    .optional(),
  internalIps: z.array(
    z.string().transform((text, context): Ip => {
      const ip = parseIp(text)
      if (ip !== undefined) return ip
      context.addIssue(`"${text}" is no IP address`)
      return z.NEVER
    }),
  ),
})

/** In memory and in its file, which is written first. */
export class NodeStateStore {
  readonly #file: JsonFile<NodeState>
  #state: NodeState = { version: 1, internalIps: [] }
  #writing: Promise<void> = Promise.resolve()

  constructor(file: JsonFile<NodeState>) {
    this.#file = file
  }

  get value(): NodeState {
    return this.#state
  }

  async load(): Promise<void> {
    this.#state = (await this.#file.read()) ?? this.#state
  }

  /** One after the other, each on what the one before left. */
  change(fields: Partial<NodeState>): Promise<void> {
    const step = this.#writing.then(async () => {
      const next = { ...this.#state, ...fields }
      if (JSON.stringify(next) === JSON.stringify(this.#state)) return
      await this.#file.write(next)
      this.#state = next
    })
    this.#writing = step.catch(() => undefined)
    return step
  }
}
