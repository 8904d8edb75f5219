import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseDatapath } from '#apps/agent/choose-datapath.ts'
import { KernelDatapath } from '#io/kernel/kernel-datapath.ts'
import { probeIpsec, probeWireguard } from '#io/kernel/probe-kernel.ts'

// The real kernel of the guest (tools/kernel), which has all of it.

test('this kernel has WireGuard and IPsec', () => {
  assert.deepEqual(probeWireguard(), { usable: true })
  assert.deepEqual(probeIpsec(), { usable: true })
  const sha = { authentication: 'hmac(sha256)', authenticationKeyBytes: 32, icvBytes: 16 }
  assert.deepEqual(probeIpsec({ encryption: 'cbc(aes)', encryptionKeyBytes: 32, ...sha }), { usable: true })
})

test('an agent that may choose takes it, unless the userspace datapath has a device here', async () => {
  const kernel = new KernelDatapath()
  try {
    const choice = await chooseDatapath('auto', { kernel, userspaceDevice: () => undefined })
    assert.deepEqual(choice, { kind: 'kernel', why: 'this kernel has WireGuard and IPsec' })
    assert.equal((await chooseDatapath('auto', { kernel, userspaceDevice: () => 'cilium_wg0' })).kind, 'userspace')
  } finally {
    await kernel.close()
  }
})

test('an algorithm that it lacks is named', () => {
  const result = probeIpsec({ encryption: 'rfc4106(gcm(nothing))', encryptionKeyBytes: 20, icvBytes: 16 })
  assert.ok(!result.usable)
  assert.match(result.missing, /^the algorithm rfc4106\(gcm\(nothing\)\) \(.*Requested AEAD algorithm not found/)
})
