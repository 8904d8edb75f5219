import { Fault } from '#core/fault/fault.ts'
import { evaluateJsonPath } from '#core/status/jsonpath.ts'
import { VERSION } from '#core/version/version.ts'

/** `-o`: as text unless it is given. */
export type Output = { readonly kind: 'json' | 'yaml' } | { readonly kind: 'jsonpath'; readonly template: string }

export interface OutputFlags {
  readonly output: Output | undefined
}

export const OUTPUT_BRIEF = "json, yaml or jsonpath='{…}'"

export function parseOutput(text: string): Output {
  if (text === 'json' || text === 'yaml') return { kind: text }
  const template = /^jsonpath=(.*)$/s.exec(text)?.[1]
  if (template !== undefined) return { kind: 'jsonpath', template: template.replace(/^'(.*)'$/s, '$1') }
  throw new Fault('output.unknown', `"${text}" is none of json, yaml, jsonpath='{…}'`, { field: '--output' })
}

/** Cilium's own JSON is indented by two blanks. */
export async function formatOutput(output: Output, value: unknown): Promise<string> {
  if (output.kind === 'json') return `${JSON.stringify(value, undefined, 2)}\n`
  if (output.kind === 'jsonpath') return evaluateJsonPath(output.template, value)
  return (await import('yaml')).stringify(value)
}

/** Both halves of `version`: this program, and the agent that answered. */
export function versions(daemon: string): object {
  return { Client: { Version: VERSION }, Daemon: { Version: daemon } }
}
