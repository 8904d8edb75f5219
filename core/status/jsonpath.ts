import { Fault } from '#core/fault/fault.ts'

/**
 * A template with expressions in braces, `{.a.b[0]}`, `{$.a['x.y']}` and text around them: the part of kubectl's
 * JSONPath that addresses one value (or, by `[*]`, all of an array's, joined by blanks). `{}` is the whole.
 * Throws Fault `jsonpath.unsupported` for anything beyond that.
 */
export function evaluateJsonPath(template: string, value: unknown): string {
  return template.replace(/\{([^{}]*)\}/g, (_, expression: string) =>
    follow(expression.trim(), value)
      .map((found) => (typeof found === 'string' ? found : JSON.stringify(found)))
      .join(' '),
  )
}

const STEP = /^(?:\.([A-Za-z_][\w-]*)|\['([^']*)'\]|\["([^"]*)"\]|\[(\d+|\*)\]|\.(\*))/

function follow(expression: string, value: unknown): unknown[] {
  let found = [value]
  let rest = expression.replace(/^\$/, '')
  // `{a.b}` is short for `{.a.b}`
  if (/^[A-Za-z_]/.test(rest)) rest = `.${rest}`
  while (rest !== '' && rest !== '.') {
    // kubectl writes a dot inside a name as `\.`
    const escaped = /^\.((?:[\w/-]|\\\.)+)/.exec(rest)
    const step = escaped?.[1]?.includes('\\') === true ? escaped : STEP.exec(rest)
    if (step === null) {
      throw new Fault('jsonpath.unsupported', `cannot follow "${rest}" in {${expression}}`, {
        field: '--output',
        remedy: 'Use names, indexes and [*], e.g. -o jsonpath={.encryption.mode}',
      })
    }
    const name = (step[1] ?? step[2] ?? step[3])?.replaceAll('\\.', '.')
    const index = name === undefined ? (step[4] ?? '*') : undefined
    found = found.flatMap((one) => (name === undefined ? at(one, index as string) : member(one, name)))
    rest = rest.slice(step[0].length)
  }
  return found
}

function member(value: unknown, name: string): unknown[] {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return []
  return [(value as Record<string, unknown>)[name]]
}

function at(value: unknown, index: string): unknown[] {
  if (index === '*') return typeof value === 'object' && value !== null ? Object.values(value) : []
  return Array.isArray(value) && Number(index) < value.length ? [value[Number(index)] as unknown] : []
}
