import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Terminal } from './terminal.ts'

test('a command on the terminal has a terminal, and its output ends at the prompt', async () => {
  await using terminal = await Terminal.open({ cwd: '/', env: process.env })
  assert.equal(await terminal.run('test -t 0 && echo yes; pwd'), 'yes\n/\n')
  assert.equal(await terminal.run('true'), '')
  // not the echo of what was typed: bash may not have begun it then, and would take the interruption itself
  terminal.type("sh -c 'echo begun; exec sleep 60'")
  await terminal.waitFor(/\nbegun\n/, 5)
  terminal.interrupt()
  await terminal.waitFor(/guide: $/, 5)
  await assert.rejects(terminal.run('echo no', { prompt: /never/, seconds: 0.3 }), /without \/never\//)
})
