import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLog, SILENT } from '#io/telemetry/log.ts'
import { type Timers, Worker } from './worker.ts'

/** Time that passes only when told. */
class FakeTimers implements Timers {
  now = 0
  #due: { at: number; callback: () => void }[] = []
  random = () => 1 - Number.EPSILON
  after(ms: number, callback: () => void): () => void {
    const entry = { at: this.now + ms, callback }
    this.#due.push(entry)
    return () => {
      this.#due = this.#due.filter((other) => other !== entry)
    }
  }
  async pass(ms: number): Promise<void> {
    const end = this.now + ms
    for (;;) {
      const next = this.#due.sort((a, b) => a.at - b.at)[0]
      if (next === undefined || next.at > end) break
      this.#due.shift()
      this.now = next.at
      next.callback()
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.now = end
  }
}

test('nudges that come together make one run; one during a run makes one more', async () => {
  const timers = new FakeTimers()
  const starts: number[] = []
  let release: (() => void) | undefined
  const job = async () => {
    starts.push(timers.now)
    await new Promise<void>((resolve) => {
      release = resolve
    })
  }
  const worker = new Worker('job', job, { log: SILENT, timers })
  worker.nudge()
  worker.nudge()
  worker.nudge()
  await timers.pass(100)
  assert.equal(starts.length, 1)
  worker.nudge()
  worker.nudge()
  await timers.pass(100)
  assert.equal(starts.length, 1, 'runs never overlap')
  release?.()
  await new Promise((resolve) => setImmediate(resolve))
  await timers.pass(100)
  assert.equal(starts.length, 2)
  release?.()
  await worker.close()
})

test('a failed run is repeated with growing pauses until it works, and says so', async () => {
  const timers = new FakeTimers()
  const lines: string[] = []
  const starts: number[] = []
  const job = async () => {
    starts.push(timers.now)
    if (starts.length < 4) throw new Error('no such device')
  }
  const log = createLog({ write: (line) => lines.push(line) })
  const worker = new Worker('apply', job, { log, timers, times: { debounce: 0, firstRetry: 100, longestRetry: 250 } })
  worker.nudge()
  await timers.pass(10_000)
  assert.deepEqual(starts, [0, 100, 300, 550])
  assert.equal(worker.failures, 0)
  assert.match(lines[1]!, /level=warning msg="apply failed: no such device" attempt=2/)
  assert.match(lines.at(-1)!, /works again/)
  await worker.close()
})

test('settled speaks of a run that began after the call', async () => {
  const timers = new FakeTimers()
  let fails = true
  const job = async () => {
    if (fails) throw new Error('full')
  }
  const worker = new Worker('apply', job, { log: SILENT, timers })
  const first = worker.settled()
  first.catch(() => undefined)
  await timers.pass(25)
  await assert.rejects(first, /full/)
  fails = false
  const second = worker.settled()
  await timers.pass(25)
  await second
  await worker.close()
  await assert.rejects(worker.settled(), /has ended/)
})
