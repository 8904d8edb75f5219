import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createLog } from '#io/telemetry/log.ts'
import { CleanupRequest } from './cleanup-request.ts'

function made() {
  const did: string[] = []
  const runs: ((done: boolean) => void)[] = []
  const request = new CleanupRequest({
    log: createLog({ format: 'logfmt', level: 'error' }),
    clean: () => {
      did.push('clean')
      return new Promise((resolve) => runs.push(resolve))
    },
    forget: async () => void did.push('forget'),
    end: () => did.push('end'),
  })
  return { request, did, finish: (done: boolean) => runs.shift()?.(done) }
}

test('a request that is taken back after the cleanup ends the agent, once', async () => {
  const { request, did, finish } = made()
  request.look(undefined)
  request.look('requested')
  request.look('requested')
  finish(true)
  await turn()
  request.look('done')
  assert.deepEqual([did, request.active], [['clean'], true])
  request.look(undefined)
  request.look(undefined)
  await turn()
  assert.deepEqual(did, ['clean', 'end'])
})

test('taken back while it runs, the agent ends when it is done', async () => {
  const { request, did, finish } = made()
  request.look('requested')
  request.look(undefined)
  await turn()
  assert.deepEqual(did, ['clean'])
  finish(true)
  await turn()
  assert.deepEqual(did, ['clean', 'end'])
})

test('a failed cleanup may be asked for again, its answer stays until then, and it may be taken back too', async () => {
  const { request, did, finish } = made()
  request.look('requested')
  finish(false)
  await turn()
  request.look('failed: no')
  assert.deepEqual([did, request.active], [['clean'], false])
  request.look('requested')
  finish(false)
  await turn()
  request.look(undefined)
  await turn()
  assert.deepEqual(did, ['clean', 'clean', 'end'])
})

test('an answer left by an installation before this one is removed', () => {
  const { request, did } = made()
  request.look('done')
  assert.deepEqual(did, ['forget'])
})
