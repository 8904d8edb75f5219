import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { judgeValues } from '#core/api/values.ts'
import { Fault } from '#core/fault/fault.ts'
import { applySet, isMap, mergeValues, type Values } from '../values/set.ts'

export interface ValueFlags {
  readonly set: readonly string[]
  readonly setString: readonly string[]
  readonly values: readonly string[]
}

/**
 * What the user gives, in Helm's order: files first to last, then `--set`, then `--set-string`.
 * @throws Fault `values.file`, `values.set`
 */
export async function readValues(flags: ValueFlags): Promise<Values> {
  let values: Values = {}
  for (const file of flags.values) values = mergeValues(values, await readFileOfValues(file))
  for (const text of flags.set) applySet(values, text)
  for (const text of flags.setString) applySet(values, text, true)
  return values
}

/**
 * Tells each value without meaning by `note`, a line each.
 * @throws Fault `values.refused`, `values.unknown` or `values.invalid` that names every wrong one
 */
export function checkValues(values: Values, note: (line: string) => void): void {
  const { faults, notes } = judgeValues(values)
  if (faults.length === 1) throw faults[0] as Fault
  if (faults.length > 1) {
    const lines = faults.map((fault) => `\n  ${fault.message}${fault.remedy === undefined ? '' : `. ${fault.remedy}`}`)
    throw new Fault('values.invalid', `${faults.length} values are wrong:${lines.join('')}`)
  }
  for (const { path, reason } of notes) note(`${path}: ${reason}`)
}

async function readFileOfValues(file: string): Promise<Values> {
  const wrong = (sentence: string, cause?: unknown): Fault =>
    new Fault('values.file', `--values ${file}: ${sentence}`, {
      field: '--values',
      ...(cause === undefined ? {} : { cause }),
    })
  let text: string
  try {
    text = await readFile(file === '-' ? '/dev/stdin' : file, 'utf8')
  } catch (error) {
    throw wrong('it cannot be read', error)
  }
  let content: unknown
  try {
    content = parse(text)
  } catch (error) {
    // the parser's own message quotes the line, which may hold a secret
    const line = (error as { linePos?: readonly { readonly line: number }[] }).linePos?.[0]?.line
    throw wrong(`it is no YAML${line === undefined ? '' : ` (line ${line})`}`)
  }
  if (content === null || content === undefined) return {}
  if (!isMap(content as Values)) throw wrong('at its top stands no map of values')
  return content as Values
}
