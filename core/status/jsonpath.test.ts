import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { evaluateJsonPath } from './jsonpath.ts'

const VALUE = {
  Daemon: { Version: '0.1.0' },
  metadata: { annotations: { 'network.cilium.io/wg-pub-key': 'KEY' } },
  list: [{ name: 'a' }, { name: 'b' }],
}

test('what tools ask for', () => {
  const cases: [string, string][] = [
    ['{$.Daemon.Version}', '0.1.0'],
    ['{.Daemon.Version}', '0.1.0'],
    ['{Daemon.Version}', '0.1.0'],
    ['version {.Daemon.Version}!', 'version 0.1.0!'],
    [String.raw`{.metadata.annotations.network\.cilium\.io/wg-pub-key}`, 'KEY'],
    ["{.metadata.annotations['network.cilium.io/wg-pub-key']}", 'KEY'],
    ['{.list[1].name}', 'b'],
    ['{.list[*].name}', 'a b'],
    ['{.absent.too}', ''],
    ['{.constructor}', ''],
    ['{.Daemon}', '{"Version":"0.1.0"}'],
    ['{}', JSON.stringify(VALUE)],
  ]
  for (const [template, wanted] of cases) assert.equal(evaluateJsonPath(template, VALUE), wanted, template)
})

test('what is beyond is refused', () => {
  for (const template of ['{.list[?(@.name=="a")]}', '{range .list[*]}', '{..name}'])
    assert.throws(() => evaluateJsonPath(template, VALUE), Fault, template)
})
