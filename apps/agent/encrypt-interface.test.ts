import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLog } from '#io/telemetry/log.ts'
import { missingInterface } from './encrypt-interface.ts'

test('a device that is not there is named in a warning, with the value and what there is', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pa-net-'))
  try {
    for (const name of ['lo', 'eth1', 'eth0', 'lxc1a2b3c', 'cilium_host', 'pellicle_ipsec', 'veth0a']) {
      await mkdir(join(folder, name))
    }
    assert.equal(await missingInterface('eth0', folder), undefined)
    assert.equal(await missingInterface('veth0a', folder), undefined, 'not offered, but it is there')
    const fault = await missingInterface('ens7', folder)
    assert.ok(fault !== undefined)
    const lines: string[] = []
    createLog({ now: () => 0, write: (line) => lines.push(line) }).warn(fault.message, {
      setting: fault.field,
      remedy: fault.remedy,
    })
    // what the guide looks for in the log
    assert.match(lines.join(''), /level=warning msg="Device ens7 does not exist" setting=encryption\.ipsec\.interface /)
    assert.match(lines.join(''), /--set encryption\.ipsec\.interface=eth0\|eth1 /)
  } finally {
    await rm(folder, { recursive: true })
  }
})
