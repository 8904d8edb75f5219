import { z } from 'zod'
import { type Ip, parseIp } from '#core/ip/address.ts'
import { type Mac, parseMac } from '#core/ip/mac.ts'
import type { JsonFile } from '#io/store/json-file.ts'

/** A pod's attachment to the network, as it is kept over restarts and over an uninstallation. */
export interface Endpoint {
  readonly containerId: string
  /** The device's name inside the pod. */
  readonly ifname: string
  /** The host's end of the veth pair, `lxc…`. */
  readonly device: string
  readonly mac: Mac
  readonly hostMac: Mac
  /** Path of the network namespace, as the runtime named it. */
  readonly netns: string
  readonly ips: readonly { readonly ip: Ip; readonly gateway: Ip }[]
  /** `namespace/name` for messages; empty where the runtime said nothing. */
  readonly pod: string
  /** False until the device is made: an address that was given away is never given twice, whatever dies in between. */
  readonly ready: boolean
}

const ipSchema = z.string().transform((text, context): Ip => {
  const ip = parseIp(text)
  if (ip !== undefined) return ip
  context.addIssue(`"${text}" is no IP address`)
  return z.NEVER
})
const macSchema = z.string().transform((text, context): Mac => {
  const mac = parseMac(text)
  if (mac !== undefined) return mac
  context.addIssue(`"${text}" is no Ethernet address`)
  return z.NEVER
})

const endpointSchema = z.object({
  containerId: z.string(),
  ifname: z.string(),
  device: z.string(),
  mac: macSchema,
  hostMac: macSchema,
  netns: z.string(),
  ips: z.array(z.object({ ip: ipSchema, gateway: ipSchema })),
  pod: z.string(),
  ready: z.boolean(),
})

/** The file's schema; `version` so that a later release can tell. */
export const endpointsSchema = z.object({ version: z.literal(1), endpoints: z.array(endpointSchema) })
export type EndpointsFile = { version: 1; endpoints: Endpoint[] }

/**
 * All endpoints of this node, in memory and in a file. A change is in the file before it is in memory, so nobody acts
 * upon what a full disk would forget. The objects are never mutated: the planner remembers by identity.
 */
export class Endpoints {
  readonly #file: JsonFile<EndpointsFile>
  #byKey = new Map<string, Endpoint>()
  #writing: Promise<void> = Promise.resolve()

  constructor(file: JsonFile<EndpointsFile>) {
    this.#file = file
  }

  async load(): Promise<void> {
    const stored = await this.#file.read()
    this.#byKey = new Map((stored?.endpoints ?? []).map((endpoint) => [endpointKey(endpoint), endpoint]))
  }

  all(): readonly Endpoint[] {
    return [...this.#byKey.values()]
  }

  get(containerId: string, ifname: string): Endpoint | undefined {
    return this.#byKey.get(endpointKey({ containerId, ifname }))
  }

  /** Adds, or replaces the one of the same container and device. */
  put(endpoint: Endpoint): Promise<void> {
    return this.#change((map) => map.set(endpointKey(endpoint), endpoint))
  }

  remove(gone: readonly Endpoint[]): Promise<void> {
    return this.#change((map) => {
      for (const endpoint of gone) map.delete(endpointKey(endpoint))
    })
  }

  /** One after the other, each on what the one before left. */
  #change(edit: (map: Map<string, Endpoint>) => void): Promise<void> {
    const step = this.#writing.then(async () => {
      const next = new Map(this.#byKey)
      edit(next)
      await this.#file.write({ version: 1, endpoints: [...next.values()] })
      this.#byKey = next
    })
    this.#writing = step.catch(() => undefined)
    return step
  }
}

export function endpointKey({ containerId, ifname }: { containerId: string; ifname: string }): string {
  return `${containerId}/${ifname}`
}
