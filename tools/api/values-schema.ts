import { z } from 'zod'
import { valuesSchema } from '#core/api/values.ts'
import { CILIUM_SUB_VALUES, CILIUM_VALUES, REFUSED } from '#core/api/values-catalog.ts'

/** A JSON schema of draft 7, which every Helm 3 reads. */
export type JsonSchema = { [key: string]: unknown }

/**
 * `deploy/chart/values.schema.json`: the same names and types that `pellicle install` checks, so that Helm by hand
 * refuses what it refuses. Top-level names of Cilium's chart are let through; what would promise security that is not
 * there may only be off.
 */
export function chartSchema(): JsonSchema {
  const schema = z.toJSONSchema(valuesSchema, { target: 'draft-7', unrepresentable: 'any' }) as JsonSchema
  close(schema, '')
  const properties = schema['properties'] as Record<string, JsonSchema>
  for (const { path, harmless = [] } of REFUSED) {
    const at = place(properties, path.split('.'))
    Object.assign(at, {
      $ref: harmless.length === 0 ? '#/definitions/off' : `#/definitions/off-or-${harmless.join('-')}`,
    })
    if (harmless.length > 0) off(schema, `off-or-${harmless.join('-')}`, harmless)
  }
  off(schema, 'off', [])
  return { ...schema, title: 'Values of the chart' }
}

/** Maps with names of their own take no other names than those and Cilium's. */
function close(schema: JsonSchema, path: string): void {
  const properties = schema['properties'] as Record<string, JsonSchema> | undefined
  if (properties === undefined) return
  for (const [name, inner] of Object.entries(properties)) close(inner, path === '' ? name : `${path}.${name}`)
  for (const name of [...(path === '' ? CILIUM_VALUES : (CILIUM_SUB_VALUES[path] ?? []))].sort()) {
    if (!Object.hasOwn(properties, name)) properties[name] = {}
  }
  schema['additionalProperties'] = false
}

/** False, empty, zero, or a tree of nothing else. */
function off(schema: JsonSchema, name: string, harmless: readonly string[]): void {
  const definitions = (schema['definitions'] ??= {}) as Record<string, JsonSchema>
  definitions[name] = {
    anyOf: [
      { enum: [false, null, '', 0, ...harmless] },
      { type: 'object', additionalProperties: { $ref: `#/definitions/${name}` } },
      { type: 'array', maxItems: 0 },
    ],
  }
}

function place(properties: Record<string, JsonSchema>, [first = '', ...rest]: readonly string[]): JsonSchema {
  const here = (properties[first] ??= {})
  if (rest.length === 0) return here
  return place((here['properties'] ??= {}) as Record<string, JsonSchema>, rest)
}
