import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createLog, type LogOptions } from './log.ts'

function capture(options: LogOptions): { log: ReturnType<typeof createLog>; lines: string[] } {
  const lines: string[] = []
  return { log: createLog({ now: () => 0, write: (line) => lines.push(line), ...options }), lines }
}

test('logfmt is the default, with the words that people grep for', () => {
  const { log, lines } = capture({})
  log
    .with({ subsys: 'agent' })
    .warn('peer has no key', { node: 'kind-worker', count: 2, note: 'say "hi"\nthere', absent: undefined })
  assert.deepEqual(lines, [
    'time=1970-01-01T00:00:00.000Z level=warning msg="peer has no key" subsys=agent node=kind-worker count=2 note="say \\"hi\\"\\nthere"\n',
  ])
})

test('a field does not take the place of the line’s own words', () => {
  const { log, lines } = capture({})
  log.info('closed', { level: 3, msg: 'no' })
  assert.match(lines[0]!, / level=info msg=closed fields\.level=3 fields\.msg=no\n$/)
})

test('JSON has the same fields', () => {
  const { log, lines } = capture({ format: 'json' })
  log.error('gone', { node: 'a' })
  assert.deepEqual(JSON.parse(lines[0]!), { level: 'error', time: '1970-01-01T00:00:00.000Z', node: 'a', msg: 'gone' })
})

test('levels below the wanted one are left out', () => {
  const { log, lines } = capture({ level: 'warning' })
  log.info('no')
  log.debug('no')
  log.warn('yes')
  assert.equal(lines.length, 1)
})

test('key material never reaches a line', () => {
  for (const format of ['logfmt', 'json'] as const) {
    const { log, lines } = capture({ format })
    const secret = 'c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I='
    const bytes = new TextEncoder().encode('secret-bytes-secret-bytes-secret')
    log.info('device', { privateKey: secret, device: { privateKey: secret, peer: { token: secret } }, bytes })
    log.with({ 'private-key': secret }).info('again')
    assert.equal(lines.length, 2)
    for (const line of lines)
      assert.ok(!line.includes('c2Vj') && !line.includes('secret-bytes') && !line.includes('115,101'))
  }
})

test('a log that has no room, or no reader, ends no program', () => {
  const log = fileURLToPath(new URL('./log.ts', import.meta.url))
  const program = `
    const { createLog } = await import(${JSON.stringify(log)})
    const log = createLog()
    for (let i = 0; i < 3; i++) {
      log.warn('nobody can read this')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    process.stderr.write('still here')`
  const full = openSync('/dev/full', 'w')
  try {
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    })
    assert.deepEqual([status, stderr], [0, 'still here'])
  } finally {
    closeSync(full)
  }
})
