/** Label selectors in Kubernetes' text form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`. */

interface Requirement {
  readonly key: string
  readonly operator: 'in' | 'notin' | 'exists' | 'absent'
  readonly values: readonly string[]
}

export type Selector = readonly Requirement[]

const KEY = String.raw`(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?`
const VALUE = String.raw`(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?`
const EQUALITY = new RegExp(`^(${KEY})\\s*(==?|!=)\\s*(${VALUE})$`)
const SET = new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`)
const EXISTS = new RegExp(`^(!?)\\s*(${KEY})$`)
const ONE_VALUE = new RegExp(`^${VALUE}$`)

/** Undefined when `text` is no selector. An empty text selects nothing that is asked for: no requirement at all. */
export function parseSelector(text: string): Selector | undefined {
  const requirements: Requirement[] = []
  // commas inside the brackets of a set belong to the set
  for (const part of text.trim() === '' ? [] : text.split(/,(?![^(]*\))/)) {
    const requirement = parseRequirement(part.trim())
    if (requirement === undefined) return undefined
    requirements.push(requirement)
  }
  return requirements
}

function parseRequirement(text: string): Requirement | undefined {
  const exists = EXISTS.exec(text)
  if (exists !== null) {
    return { key: exists[2] as string, operator: exists[1] === '!' ? 'absent' : 'exists', values: [] }
  }
  const equality = EQUALITY.exec(text)
  if (equality !== null) {
    const [, key, operator, value] = equality as unknown as [string, string, string, string]
    return { key, operator: operator === '!=' ? 'notin' : 'in', values: [value] }
  }
  const set = SET.exec(text)
  if (set === null) return undefined
  const [, key, operator, list] = set as unknown as [string, string, 'in' | 'notin', string]
  const values = list.split(',').map((value) => value.trim())
  return values.every((value) => ONE_VALUE.test(value)) ? { key, operator, values } : undefined
}

/** True when every requirement holds; as in Kubernetes, `!=` and `notin` hold where the label is missing. */
export function selects(selector: Selector, labels: Readonly<Record<string, string>>): boolean {
  return selector.every(({ key, operator, values }) => {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined
    if (operator === 'exists') return value !== undefined
    if (operator === 'absent') return value === undefined
    const among = value !== undefined && values.includes(value)
    return operator === 'in' ? among : !among
  })
}

export function formatSelector(selector: Selector): string {
  return selector
    .map(({ key, operator, values }) => {
      if (operator === 'exists') return key
      if (operator === 'absent') return `!${key}`
      if (values.length === 1) return `${key}${operator === 'in' ? '=' : '!='}${values[0]}`
      return `${key} ${operator} (${values.join(',')})`
    })
    .join(',')
}
