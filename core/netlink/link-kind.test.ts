import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reader } from '#core/bytes/reader.ts'
import { toHex } from '#core/bytes/text.ts'
import { newLink } from './link.ts'
import { readLinkKind } from './link-kind.ts'

test('an xfrm interface says its id', () => {
  const { body } = newLink({ name: 'x', kind: 'xfrm', interfaceId: 0x1234567 })
  // IFLA_LINKINFO with kind and data, as iproute2 writes it: IFLA_XFRM_IF_ID is 2
  const hex = toHex(body)
  const info = '090001007866726d00000000'
  assert.ok(hex.includes(info), hex)
  assert.ok(hex.endsWith('0c0002800800020067452301'), hex)
  const nested = Uint8Array.from(Buffer.from(hex.slice(hex.indexOf(info)), 'hex'))
  assert.deepEqual(readLinkKind(new Reader(nested)), { kind: 'xfrm', interfaceId: 0x1234567 })
})
