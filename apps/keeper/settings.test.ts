import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { readSettings } from './settings.ts'

test('the supervisor says everything; what is wrong is named', () => {
  const env = {
    PELLICLE_DEVICE: 'cilium_wg0',
    PELLICLE_RUN_DIR: '/r',
    PELLICLE_LISTEN_PORT: '51871',
    PELLICLE_MARK: '0xe00',
  }
  assert.deepEqual(readSettings(env), {
    device: 'cilium_wg0',
    runDir: '/r',
    uapiDir: '/var/run/wireguard',
    listenPort: 51871,
    mark: 0xe00,
    uapiFd: undefined,
    logFormat: 'logfmt',
    logLevel: 'info',
  })
  assert.equal(readSettings({ ...env, PELLICLE_UAPI_FD: '3' }).uapiFd, 3)
  for (const [word, level] of [
    ['verbose', 'debug'],
    ['silent', 'error'],
    ['error', 'error'],
    ['', 'info'],
  ] as const) {
    assert.equal(readSettings({ ...env, LOG_LEVEL: word }).logLevel, level)
  }
  for (const [field, value] of [
    ['PELLICLE_DEVICE', ''],
    ['PELLICLE_DEVICE', '../x'],
    ['PELLICLE_DEVICE', 'longer-than-15-characters'],
    ['PELLICLE_LISTEN_PORT', '65536'],
    ['PELLICLE_LISTEN_PORT', '-1'],
    ['PELLICLE_MARK', 'x'],
    ['PELLICLE_UAPI_FD', '-3'],
    ['LOG_FORMAT', 'xml'],
  ] as const) {
    assert.throws(
      () => readSettings({ ...env, [field]: value }),
      (error) => error instanceof Fault && error.field === field,
      `${field}=${value}`,
    )
  }
})
