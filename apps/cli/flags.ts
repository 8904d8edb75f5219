import type { FlagParametersForType } from '@stricli/core'
import { parseDuration } from '#core/api/duration.ts'
import { NAMESPACE } from '#core/api/names.ts'
import type { CliContext } from './context.ts'

/** Flags of every command that talks to a cluster. */
export interface ClusterFlags {
  readonly namespace: string | undefined
  readonly context: string | undefined
  readonly kubeconfig: string | undefined
  /** Whom to impersonate, and as a member of which groups. */
  readonly as: string | undefined
  readonly asGroup: readonly string[] | undefined
}

export const clusterFlags: FlagParametersForType<ClusterFlags, CliContext> = {
  namespace: {
    kind: 'parsed',
    parse: text,
    brief: `Namespace of the agents [default = $CILIUM_NAMESPACE or ${NAMESPACE}]`,
    placeholder: 'name',
    optional: true,
  },
  context: { kind: 'parsed', parse: text, brief: 'Context of the kubeconfig', placeholder: 'name', optional: true },
  kubeconfig: { kind: 'parsed', parse: text, brief: 'Kubeconfig file', placeholder: 'file', optional: true },
  as: { kind: 'parsed', parse: text, brief: 'User to impersonate', placeholder: 'user', optional: true },
  asGroup: {
    kind: 'parsed',
    parse: text,
    brief: 'Group of the user to impersonate; may be repeated',
    placeholder: 'group',
    optional: true,
    variadic: true,
  },
}

export const releaseFlag: FlagParametersForType<{ readonly helmReleaseName: string }, CliContext> = {
  helmReleaseName: {
    kind: 'parsed',
    parse: text,
    brief: 'Name of the Helm release',
    placeholder: 'name',
    default: 'cilium',
  },
}

/** Parsers of flags: their errors are shown after `Failed to parse "x" for flag:`. */
export function text(input: string): string {
  return input
}

/** Milliseconds. */
export function duration(input: string): number {
  const milliseconds = parseDuration(input)
  if (milliseconds === undefined) throw new SyntaxError('a duration is written as 90s, 5m or 1h30m')
  return milliseconds
}

export function count(input: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(input)) throw new SyntaxError('a whole number from 1 to 999999999 is needed')
  return Number(input)
}
