import type { z } from 'zod'
import { Fault } from '#core/fault/fault.ts'
import { nearest } from './nearest.ts'

type Issue = z.core.$ZodIssue

/** Choices that the schema has, for Cilium has them too, and that are refused here: none of them is offered. */
const NOT_OFFERED: Readonly<Record<string, readonly string[]>> = {
  'encryption.type': ['ztunnel'],
  tunnelProtocol: ['geneve'],
}

/** A value that is not of its type: `values.invalid`. Where there is a choice, it says which, and the nearest. */
export function invalidValue(issue: Issue, values: unknown): Fault {
  const field = issue.path.map(String).join('.')
  const choices = choicesOf(issue)?.filter((choice) => choice !== '' && NOT_OFFERED[field]?.includes(choice) !== true)
  if (choices === undefined || choices.length === 0) {
    return new Fault('values.invalid', `${field}: ${issue.message}`, { field, remedy: `Correct ${field}` })
  }
  const list = choices.join(' or ')
  const given = valueAt(values, issue.path)
  const close = typeof given === 'string' ? nearest(given, choices) : undefined
  let remedy = `Set it to ${list}`
  // --set-string, or quotes in a file of values
  if (close !== undefined) remedy = close === given ? `Give ${close} as it is, not as a text` : `Did you mean ${close}?`
  return new Fault('values.invalid', `${field}: ${list} is needed`, { field, remedy })
}

/** Undefined: not only a choice between a few words. */
function choicesOf(issue: Issue): readonly string[] | undefined {
  if (issue.code === 'invalid_value') return issue.values.map(String)
  if (issue.code === 'invalid_type') return issue.expected === 'boolean' ? ['true', 'false'] : undefined
  if (issue.code !== 'invalid_union') return undefined
  const all = new Set<string>()
  for (const inner of issue.errors.flat()) {
    const choices = choicesOf(inner)
    if (choices === undefined) return undefined
    for (const choice of choices) all.add(choice)
  }
  return [...all]
}

function valueAt(values: unknown, path: readonly PropertyKey[]): unknown {
  let value = values
  for (const step of path) value = (value as Record<PropertyKey, unknown>)[step]
  return value
}
