import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { judgeValues, valuesSchema } from '#core/api/values.ts'
import { chartSchema, type JsonSchema } from './values-schema.ts'

const chart = new URL('../../deploy/chart/', import.meta.url)
const written = JSON.parse(readFileSync(new URL('values.schema.json', chart), 'utf8')) as JsonSchema

test('the committed schema is what tools/update-crds.ts writes', () => {
  assert.deepEqual(written, JSON.parse(JSON.stringify(chartSchema())))
})

test('the defaults of the chart are values of ours, and every value that is ours has a default', () => {
  const defaults = parse(readFileSync(new URL('values.yaml', chart), 'utf8')) as Record<string, unknown>
  assert.deepEqual(judgeValues(defaults), { faults: [], notes: [] })
  assert.deepEqual(
    Object.keys(valuesSchema.shape).filter((name) => !Object.hasOwn(defaults, name)),
    [],
  )
})

test('no name below one of ours slips through', () => {
  const properties = written['properties'] as Record<string, JsonSchema>
  assert.equal(written['additionalProperties'], false)
  for (const name of ['encryption', 'pellicle', 'ipv4', 'operator', 'cni']) {
    assert.equal(properties[name]?.['additionalProperties'], false, name)
  }
  // free trees of Kubernetes' own stay free
  assert.notEqual(properties['resources']?.['additionalProperties'], false)
})
