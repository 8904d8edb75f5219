import type { FlagParametersForType } from '@stricli/core'
import type { CliContext } from '../context.ts'
import { type ClusterFlags, clusterFlags, duration, releaseFlag, text } from '../flags.ts'

/** What install and upgrade have in common. */
export interface DeployFlags extends ClusterFlags {
  readonly version: string | undefined
  readonly set: readonly string[] | undefined
  readonly setString: readonly string[] | undefined
  readonly values: readonly string[] | undefined
  readonly chartDirectory: string | undefined
  readonly helmReleaseName: string
  readonly wait: boolean
  /** Milliseconds. */
  readonly waitDuration: number
  readonly dryRun: boolean
  readonly interactive: boolean
  readonly ipv4NativeRoutingCidr: string | undefined
}

export const deployFlags: FlagParametersForType<DeployFlags, CliContext> = {
  ...clusterFlags,
  ...releaseFlag,
  version: {
    kind: 'parsed',
    parse: text,
    brief: 'Cilium release whose packets and texts are produced, such as 1.14.5',
    placeholder: 'release',
    optional: true,
  },
  set: {
    kind: 'parsed',
    parse: text,
    brief: 'A value of the chart, such as encryption.enabled=true; may be repeated',
    placeholder: 'name=value',
    optional: true,
    variadic: true,
  },
  setString: {
    kind: 'parsed',
    parse: text,
    brief: 'The same, always as a text',
    placeholder: 'name=value',
    optional: true,
    variadic: true,
  },
  values: {
    kind: 'parsed',
    parse: text,
    brief: 'YAML file with values; may be repeated',
    placeholder: 'file',
    optional: true,
    variadic: true,
  },
  chartDirectory: { kind: 'parsed', parse: text, brief: 'Another chart', placeholder: 'folder', optional: true },
  wait: { kind: 'boolean', brief: 'Wait until the status has no errors and no warnings', default: false },
  waitDuration: { kind: 'parsed', parse: duration, brief: 'How long to wait', placeholder: 'duration', default: '5m' },
  dryRun: { kind: 'boolean', brief: 'Print the objects, change nothing', default: false },
  interactive: { kind: 'boolean', brief: 'Show progress while waiting, on a terminal', default: true },
  ipv4NativeRoutingCidr: {
    kind: 'parsed',
    parse: text,
    brief: 'What the network carries with routingMode=native, as ipv4NativeRoutingCIDR',
    placeholder: 'cidr',
    optional: true,
  },
}

export const deployAliases = { n: 'namespace', f: 'values' } as const
