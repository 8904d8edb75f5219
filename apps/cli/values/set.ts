import { Fault } from '#core/fault/fault.ts'

/** A value as Helm sees it: what YAML and JSON can say. */
export type Value = string | number | boolean | null | Value[] | Values
export interface Values {
  [key: string]: Value
}

/**
 * Helm's `--set` (its package strvals): `a.b=1,c[0].d={x,y}`; a backslash takes the next character as it is. `true`,
 * `false`, `null` and whole numbers without a leading zero are typed unless `strings` is set; `null` removes a default.
 * Writes into `target`.
 *
 * @throws Fault `values.set` that shows where.
 */
export function applySet(target: Values, text: string, strings = false): void {
  new SetParser(text, strings).run(target)
}

/** Deep merge as Helm's `-f`: maps are merged, everything else is replaced. Neither argument is changed. */
export function mergeValues(under: Values, over: Values): Values {
  const merged: Values = { ...under }
  for (const [key, value] of Object.entries(over)) {
    const below = Object.hasOwn(merged, key) ? merged[key] : undefined
    merged[key] = isMap(below) && isMap(value) ? mergeValues(below, value) : value
  }
  return merged
}

export function isMap(value: Value | undefined): value is Values {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What stands at `a.b.c`; undefined when a step is missing. */
export function valueAt(values: Values, path: string): Value | undefined {
  let at: Value | undefined = values
  for (const step of path.split('.')) {
    at = isMap(at) && Object.hasOwn(at, step) ? at[step] : undefined
  }
  return at
}

/** `values` with `value` at `a.b.c`. */
export function withValueAt(values: Values, path: string, value: Value): Values {
  const [first = '', ...rest] = path.split('.')
  if (rest.length === 0) return { ...values, [first]: value }
  const below = Object.hasOwn(values, first) ? values[first] : undefined
  return { ...values, [first]: withValueAt(isMap(below) ? below : {}, rest.join('.'), value) }
}

type Step = string | number

class SetParser {
  readonly #text: string
  readonly #strings: boolean
  #at = 0

  constructor(text: string, strings: boolean) {
    this.#text = text
    this.#strings = strings
  }

  run(target: Values): void {
    while (this.#at < this.#text.length) {
      const path = this.#path()
      write(target, path, this.#value(), (sentence) => this.#fault(sentence))
      if (this.#at < this.#text.length && this.#text[this.#at++] !== ',') throw this.#fault('a comma is missing')
    }
  }

  #path(): Step[] {
    const path: Step[] = []
    for (;;) {
      const name = this.#until('.[=,')
      if (name === '' && !(path.length > 0 && this.#text[this.#at] === '[')) throw this.#fault('a name is missing')
      if (name === '__proto__') throw this.#fault('this is no name of a value')
      if (name !== '') path.push(name)
      while (this.#text[this.#at] === '[') {
        const match = /^\[(\d{1,4})\]/.exec(this.#text.slice(this.#at))
        if (match === null) throw this.#fault('between [ and ] stands a number')
        path.push(Number(match[1]))
        this.#at += match[0].length
      }
      const stop = this.#text[this.#at++]
      if (stop === '=') return path
      if (stop !== '.') throw this.#fault(`"${this.#text.slice(0, this.#at - 1)}" has no value`)
    }
  }

  #value(): Value {
    if (this.#text[this.#at] !== '{') return this.#typed(this.#until(','))
    this.#at++
    const items: Value[] = []
    if (this.#text[this.#at] === '}') {
      this.#at++
      return items
    }
    for (;;) {
      items.push(this.#typed(this.#until(',}')))
      const stop = this.#text[this.#at++]
      if (stop === '}') return items
      if (stop === undefined) throw this.#fault('the list is not closed by }')
    }
  }

  #until(stops: string): string {
    let found = ''
    while (this.#at < this.#text.length) {
      const character = this.#text[this.#at] as string
      if (character === '\\' && this.#at + 1 < this.#text.length) {
        found += this.#text[this.#at + 1]
        this.#at += 2
        continue
      }
      if (stops.includes(character)) break
      found += character
      this.#at++
    }
    return found
  }

  #typed(text: string): Value {
    if (this.#strings) return text
    if (text === 'true') return true
    if (text === 'false') return false
    if (text === 'null') return null
    if (/^(0|-?[1-9]\d*)$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text)
    return text
  }

  #fault(sentence: string): Fault {
    return new Fault('values.set', `--set ${this.#text}: ${sentence}`, {
      field: '--set',
      remedy: 'Write it as --set name.of.value=text; separate several by commas, lists as {a,b}',
    })
  }
}

function write(target: Values, path: readonly Step[], value: Value, fault: (sentence: string) => Fault): void {
  let at: Value = target
  for (const [index, step] of path.entries()) {
    const last = index === path.length - 1
    if (typeof step === 'number' ? !Array.isArray(at) : !isMap(at)) {
      throw fault(
        `${pathText(path.slice(0, index))} has a value already that is no ${typeof step === 'number' ? 'list' : 'map'}`,
      )
    }
    const holder = at as Record<Step, Value>
    if (Array.isArray(at) && typeof step === 'number' && step > at.length) {
      throw fault(`${pathText(path.slice(0, index))}[${at.length}] is missing before [${step}]`)
    }
    if (last) holder[step] = value
    else {
      if (!Object.hasOwn(holder, step) || holder[step] === null)
        holder[step] = typeof path[index + 1] === 'number' ? [] : {}
      at = holder[step] as Value
    }
  }
}

function pathText(path: readonly Step[]): string {
  return path.map((step, i) => (typeof step === 'number' ? `[${step}]` : i === 0 ? step : `.${step}`)).join('')
}
