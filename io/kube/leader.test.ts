import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { serveKube } from '#test/kit/kube-server.ts'
import type { Clock } from './clock.ts'
import { runAsLeader } from './leader.ts'

/** Waits cost nothing; the wall clock is set back by an hour at each of them. */
class LateClock implements Clock {
  wall = Date.UTC(2026, 0, 1)
  passed = 0
  now(): number {
    return this.wall
  }
  steady(): number {
    return this.passed
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    // as a real one: no whole milliseconds
    this.passed += ms + 0.001
    this.wall += ms - 3_600_000
    await new Promise((resolve) => setImmediate(resolve))
    signal?.throwIfAborted()
  }
  random(): number {
    return 0
  }
}

interface StoredLease {
  metadata: { name: string; namespace: string; resourceVersion: string }
  spec: { holderIdentity?: string; leaseDurationSeconds?: number }
}

/** An API server with one Lease, held by somebody who never says a word again. */
async function withLease(t: TestContext) {
  let lease: StoredLease = {
    metadata: { name: 'l', namespace: 'n', resourceVersion: '1' },
    spec: { holderIdentity: 'gone', leaseDurationSeconds: 15 },
  }
  const state = { writes: 0, refuse: false }
  const clock = new LateClock()
  const { client } = await serveKube(t, clock, (request, response) => {
    void body(request).then((text) => {
      if (state.refuse) return response.writeHead(503).end('{}')
      if (request.method === 'PUT') {
        state.writes++
        const next = JSON.parse(text) as StoredLease
        lease = { ...next, metadata: { ...next.metadata, resourceVersion: `${state.writes + 1}` } }
      }
      return response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(lease))
    })
  })
  return { client, clock, state, holder: () => lease.spec.holderIdentity }
}

async function body(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

const OPTIONS = { namespace: 'n', name: 'l', identity: 'me' }

test('a clock that is set back makes nobody wait longer for a holder that is gone', { timeout: 100_000 }, async (t) => {
  const { client, clock, holder } = await withLease(t)
  const stop = new AbortController()
  await runAsLeader(
    client,
    OPTIONS,
    async () => {
      assert.equal(holder(), 'me')
      assert.ok(clock.passed > 15_000 && clock.passed < 20_000, `after ${clock.passed} ms`)
      stop.abort()
    },
    stop.signal,
  )
  assert.equal(holder(), '', 'given back')
})

test('nor does it let a holder go on that cannot renew', { timeout: 100_000 }, async (t) => {
  const { client, clock, state } = await withLease(t)
  const stop = new AbortController()
  await runAsLeader(
    client,
    OPTIONS,
    async (signal) => {
      const began = clock.passed
      state.refuse = true
      await once(signal, 'abort')
      assert.ok(clock.passed - began < 15_000, `led for ${clock.passed - began} ms`)
      stop.abort()
    },
    stop.signal,
  )
})

test('a holder that renews goes on for as long as it likes', { timeout: 100_000 }, async (t) => {
  const { client, clock, state } = await withLease(t)
  const stop = new AbortController()
  let terms = 0
  await runAsLeader(
    client,
    OPTIONS,
    async (signal) => {
      terms++
      const [began, writes] = [clock.passed, state.writes]
      while (clock.passed - began < 60_000 && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, 5))
      assert.ok(state.writes - writes > 20, `renewed ${state.writes - writes} times`)
      stop.abort()
    },
    stop.signal,
  )
  assert.equal(terms, 1)
})
