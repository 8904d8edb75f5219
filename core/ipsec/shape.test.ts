import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ipsecShapeFor } from './shape.ts'

test('the shape follows release, overlay and UDP', () => {
  for (const [profile, udpEncapsulation, encryptedOverlay, expected] of [
    [undefined, 'auto', false, 'udp'],
    [undefined, 'true', false, 'udp'],
    [undefined, 'false', false, 'esp'],
    [undefined, 'false', true, 'esp'],
    ['1.14.5', 'auto', false, 'esp-in-vxlan'],
    ['1.17.0', 'auto', false, 'esp-in-vxlan'],
    ['v1.17', 'false', false, 'esp-in-vxlan'],
    ['1.17.0', 'true', false, 'udp'],
    ['1.15', 'auto', true, 'esp-in-vxlan'],
    ['1.16', 'auto', true, 'vxlan-in-esp'],
    ['1.18', 'auto', false, 'vxlan-in-esp'],
    ['1.20.0-rc.1', 'false', false, 'vxlan-in-esp'],
    ['1.18', 'true', false, 'udp'],
  ] as const) {
    const wishes = { profile, udpEncapsulation, encryptedOverlay }
    assert.equal(ipsecShapeFor(wishes), expected, `${profile}`)
    const native = ipsecShapeFor({ ...wishes, native: true })
    assert.equal(native, expected === 'udp' ? 'udp' : 'esp', `${profile} native`)
  }
})
