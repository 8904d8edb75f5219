import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Address4, Address6 } from 'ip-address'
import { compareIp, type Ip, ipFromBytes, ipFromValue, ipToBytes, ipToValue, parseIp } from './address.ts'
import { cidrOf, containsCidr, containsIp, nthIp, overlaps, parseCidr, sizeOf } from './cidr.ts'
import { macOfIp, macToBytes, parseMac } from './mac.ts'
import { PrefixTable } from './prefix-table.ts'

const ip = (text: string) => parseIp(text) as Ip
const value4 = fc.bigInt({ min: 0n, max: (1n << 32n) - 1n })
// runs of zero groups are what the text form is about
const value6 = fc
  .array(fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 0xffffn })), { minLength: 8, maxLength: 8 })
  .map((groups) => groups.reduce((v, g) => (v << 16n) | g, 0n))

test('IPv6 text is canonical by RFC 5952', () => {
  for (const [from, to] of [
    ['2001:0DB8::0001', '2001:db8::1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::ffff:192.0.2.1', '::ffff:c000:201'],
    ['1::', '1::'],
  ] as const) {
    assert.equal(parseIp(from), to)
  }
})

test('what is no address is refused', () => {
  for (const text of [
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '01.2.3.4',
    '1.2.3.-4',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    'fe80::1%eth0',
    '12345::',
    '1:2:3:4:5:6:7:8:9',
    '::1.2.3',
    'g::',
  ]) {
    assert.equal(parseIp(text), undefined, text)
  }
})

test('texts, values and bytes agree with the ip-address library', () => {
  fc.assert(
    fc.property(value4, (v) => {
      const text = ipFromValue(4, v)
      assert.equal(text, Address4.fromBigInt(v).correctForm())
      assert.equal(ipToValue(text), v)
      assert.equal(ipFromBytes(ipToBytes(text)), text)
    }),
  )
  fc.assert(
    fc.property(value6, (v) => {
      const text = ipFromValue(6, v)
      assert.equal(text, Address6.fromBigInt(v).correctForm())
      assert.equal(parseIp(text), text)
      assert.equal(ipToValue(text), v)
      assert.equal(ipFromBytes(ipToBytes(text)), text)
    }),
  )
})

test('order is IPv4 first, then by value', () => {
  assert.deepEqual([ip('::1'), ip('10.0.0.2'), ip('9.255.0.1')].sort(compareIp), ['9.255.0.1', '10.0.0.2', '::1'])
})

test('a prefix clears host bits, knows its size and its members', () => {
  const cidr = parseCidr('10.244.1.77/24')
  assert.equal(cidr, '10.244.1.0/24')
  assert.ok(cidr)
  assert.equal(sizeOf(cidr), 256n)
  assert.equal(nthIp(cidr, 255n), '10.244.1.255')
  assert.throws(() => nthIp(cidr, 256n), TypeError)
  assert.ok(containsIp(cidr, ip('10.244.1.9')))
  assert.ok(!containsIp(cidr, ip('10.244.2.9')))
  assert.ok(!containsIp(cidr, ip('::1')))
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/08', 'x/8', '::/129', '1.2.3.4/5/6'])
    assert.equal(parseCidr(text), undefined, text)
})

test('containment agrees with the ip-address library', () => {
  fc.assert(
    fc.property(value4, fc.integer({ min: 0, max: 32 }), value4, fc.integer({ min: 0, max: 32 }), (a, m, b, n) => {
      const [x, y] = [cidrOf(ipFromValue(4, a), m), cidrOf(ipFromValue(4, b), n)]
      const inside = new Address4(y).isInSubnet(new Address4(x))
      assert.equal(containsCidr(x, y), inside)
      assert.equal(overlaps(x, y), inside || new Address4(x).isInSubnet(new Address4(y)))
    }),
  )
})

test('the prefix table finds the longest match, like a scan does', () => {
  const prefixes = fc.array(fc.tuple(value6, fc.integer({ min: 0, max: 128 })), { maxLength: 30 })
  fc.assert(
    fc.property(prefixes, value6, (list, probe) => {
      const table = new PrefixTable<string>()
      // an address inside one of the prefixes makes hits likely
      const target = ipFromValue(6, list[0]?.[0] ?? probe)
      const cidrs = list.map(([v, n]) => cidrOf(ipFromValue(6, v), n))
      for (const c of cidrs) table.set(c, c)
      const best = cidrs
        .filter((c) => containsIp(c, target))
        .sort((a, b) => Number(sizeOf(a) - sizeOf(b) > 0n) * 2 - 1)[0]
      assert.equal(table.lookup(target), best)
      for (const c of cidrs) table.delete(c)
      assert.equal(table.lookup(target), undefined)
      assert.deepEqual([...table.entries()], [])
    }),
  )
})

test('a computed Ethernet address is unicast, local and stable', () => {
  const mac = macOfIp(ip('10.244.1.155'))
  assert.equal(mac, '0e:04:0a:f4:01:9b')
  assert.equal(macToBytes(mac)[0]! & 3, 2)
  assert.equal(parseMac('0E:04:0a:f4:01:9B'), mac)
  assert.equal(parseMac('0e:04'), undefined)
  const nodes = Array.from({ length: 5000 }, (_, n) => macOfIp(ip(`fd00:10:244:${n.toString(16)}::1`)))
  assert.equal(new Set(nodes).size, 5000)
  assert.ok(nodes.every((node) => (macToBytes(node)[0]! & 3) === 2))
})
