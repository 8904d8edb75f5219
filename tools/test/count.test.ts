import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countCargo, describe } from './count.ts'

test('cargo lines are summed over test binaries', () => {
  const output = [
    'running 2 tests',
    'test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s',
    'test result: FAILED. 3 passed; 1 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.00s',
  ].join('\n')
  assert.deepEqual(countCargo(output), { passed: 5, failed: 1, skipped: 4 })
  assert.deepEqual(countCargo('error: could not compile'), { passed: 0, failed: 0, skipped: 0 })
})

test('the closing line has the form that runners are read by', () => {
  assert.equal(describe({ passed: 1, failed: 0, skipped: 2 }), '1 passed, 0 failed, 2 skipped')
})
