import { z } from 'zod'
import { CniError } from './error.ts'

/**
 * One invocation of the CNI executable, as its forwarder hands it on: the environment (`CNI_COMMAND` …) by name, and
 * `config`, the network configuration from standard input, as the object it is.
 */
export interface CniRequest {
  readonly command: 'ADD' | 'DEL' | 'CHECK' | 'GC' | 'STATUS' | 'VERSION'
  readonly containerId: string
  /** Path of the pod's network namespace; empty where the runtime knows none (DEL of a pod that is gone). */
  readonly netns: string
  readonly ifname: string
  /** `CNI_ARGS`, parsed: K8S_POD_NAMESPACE and so on. */
  readonly args: Readonly<Record<string, string>>
  readonly config: CniConfig
}

/** The network configuration: what we read of it. */
interface CniConfig {
  readonly cniVersion: string
  readonly name: string
  readonly prevResult: unknown
  /** GC: what is still in use, by `containerID` and `ifname`. */
  readonly validAttachments: readonly { readonly containerID: string; readonly ifname: string }[] | undefined
}

/** What we speak; the executable answers VERSION with the same list. */
const CNI_VERSIONS = ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const

const COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const

/** What the environment does not say is null. */
const maybeText = z
  .string()
  .nullish()
  .transform((value) => value ?? '')

const lineSchema = z.object({
  command: z.string(),
  containerId: maybeText,
  netns: maybeText,
  ifname: maybeText,
  args: maybeText,
  path: maybeText,
  config: z.unknown(),
})

const attachments = z.array(z.looseObject({ containerID: z.string(), ifname: z.string() }))

const configSchema = z.looseObject({
  cniVersion: z.string().default('0.1.0'),
  name: z.string().default(''),
  prevResult: z.unknown().optional(),
  'cni.dev/valid-attachments': attachments.optional(),
  'cni.dev/attachments': attachments.optional(),
})

/** Throws {@link CniError} with the spec's code: 4 environment, 6 not decodable, 7 configuration, 1 version. */
export function parseCniRequest(line: string): CniRequest {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new CniError(6, 'the request is no JSON')
  }
  const parsed = lineSchema.safeParse(value)
  if (!parsed.success) throw new CniError(6, `the request is malformed: ${z.prettifyError(parsed.error)}`)
  const { command, containerId, netns, ifname, args } = parsed.data
  const known = COMMANDS.find((name) => name === command)
  if (known === undefined) throw new CniError(4, `CNI_COMMAND: "${command}" is none of ${COMMANDS.join(', ')}`)
  const config = parseConfig(parsed.data.config)
  if (known !== 'VERSION' && !(CNI_VERSIONS as readonly string[]).includes(config.cniVersion)) {
    throw new CniError(1, `cniVersion ${config.cniVersion} is not spoken here`, `supported: ${CNI_VERSIONS.join(', ')}`)
  }
  if (known === 'ADD' || known === 'CHECK' || known === 'DEL') {
    if (!/^[A-Za-z0-9][\w.-]*$/.test(containerId)) throw invalid('CNI_CONTAINERID', containerId)
    // what the kernel takes as a device name; the spec asks for the same
    if (!/^[^\s/:]{1,15}$/.test(ifname) || ifname === '.' || ifname === '..') throw invalid('CNI_IFNAME', ifname)
    if (netns === '' && known !== 'DEL') throw invalid('CNI_NETNS', netns)
  }
  return { command: known, containerId, netns, ifname, args: parseArgs(args), config }
}

function parseConfig(value: unknown): CniConfig {
  let config = value
  if (typeof config === 'string') {
    try {
      config = JSON.parse(config)
    } catch {
      throw new CniError(6, 'the network configuration is no JSON')
    }
  }
  const parsed = configSchema.safeParse(config ?? {})
  if (!parsed.success) {
    throw new CniError(7, `the network configuration is wrong: ${z.prettifyError(parsed.error)}`)
  }
  const { cniVersion, name, prevResult } = parsed.data
  // libcni writes the second name, the spec's text has the first
  const validAttachments = parsed.data['cni.dev/valid-attachments'] ?? parsed.data['cni.dev/attachments']
  return { cniVersion, name, prevResult, validAttachments }
}

/** `A=b;C=d`; pieces without `=` are ignored as the spec says nothing about them. */
function parseArgs(text: string): Record<string, string> {
  const pairs = text.split(';').flatMap((piece) => {
    const at = piece.indexOf('=')
    return at > 0 ? [[piece.slice(0, at).trim(), piece.slice(at + 1)] as const] : []
  })
  return Object.fromEntries(pairs)
}

function invalid(name: string, value: string): CniError {
  return new CniError(4, value === '' ? `${name} is missing` : `${name}: "${value}" is not valid`)
}
