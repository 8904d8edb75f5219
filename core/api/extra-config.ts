import { Fault } from '#core/fault/fault.ts'
import { parseConfig } from './config.ts'
import { CHART_KEYS } from './config-refused.ts'
import type { Judgement } from './judgement.ts'

/** What {@link parseConfig} asks for and the chart writes. */
const BESIDE = { 'pellicle-cluster-cidrs': '0.0.0.0/0' }

/** `extraConfig`: by it nobody may reach what the values refuse. A key that agents do not know is told, not refused. */
export function judgeExtraConfig(extra: Readonly<Record<string, string | number | boolean>>): Judgement {
  const faults: Fault[] = []
  const refuse = (key: string, sentence: string, remedy: string) => {
    const field = `extraConfig.${key}`
    faults.push(new Fault('values.refused', `${field}: ${sentence}`, { field, remedy }))
  }
  const rest: Record<string, string> = {}
  for (const [key, value] of Object.entries(extra)) {
    const made = Object.hasOwn(CHART_KEYS, key) ? CHART_KEYS[key] : undefined
    if (made !== undefined) {
      refuse(key, 'it is written by the chart, and this one would win over it', `Set ${made} instead`)
    } else if (!/^[-._a-zA-Z0-9]+$/.test(key)) {
      refuse(key, 'that is no name of a key in a ConfigMap', 'Remove it')
    } else {
      rest[key] = String(value)
    }
  }
  const parsed = parseConfig({ ...BESIDE, ...rest })
  if (parsed.ok) {
    const notes = parsed.value.unknown.map(({ key, nearest }) => ({
      path: `extraConfig.${key}`,
      reason: nearest === undefined ? 'no agent reads it' : `no agent reads it; did you mean ${nearest}?`,
    }))
    return { faults, notes }
  }
  for (const { field = '', message, remedy = 'Correct it' } of parsed.error) {
    refuse(field, message.replace(/^.*?: .*?: /, ''), remedy)
  }
  return { faults, notes: [] }
}
