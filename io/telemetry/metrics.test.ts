import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metrics } from './metrics.ts'

test('what is counted is told in Prometheus’ text form', async () => {
  const metrics = new Metrics()
  const peers = metrics.gauge('pellicle_peers', 'Other nodes with a key')
  const changes = metrics.counter('pellicle_changes_total', 'Changes applied', ['outcome'])
  let scrapes = 0
  metrics.onScrape(() => {
    peers.set(++scrapes)
  })
  changes.add(2, { outcome: 'done' })
  changes.add(1, { outcome: 'done' })
  const text = await metrics.text()
  assert.match(text, /^# TYPE pellicle_peers gauge$/m)
  assert.match(text, /^pellicle_peers 1$/m)
  assert.match(text, /^pellicle_changes_total\{outcome="done"\} 3$/m)
  assert.match(await metrics.text(), /^pellicle_peers 2$/m)
  assert.match(metrics.contentType, /text\/plain/)
})
