import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Ip, requireIp } from '#core/ip/address.ts'
import { type Judgement, Load } from './load.ts'

const LIMIT = 1000
const honest = (i: number): Ip => requireIp(`10.1.${i >> 8}.${i & 255}`, 'ip')
const attacker = requireIp('192.0.2.66', 'ip')
const no = () => false
const yes = () => true

/** `count` messages spread over `milliseconds`. */
function send(load: Load, from: number, milliseconds: number, count: number, source: (i: number) => Ip, proven = no) {
  const ends: Record<Judgement, number> = { serve: 0, ask: 0, drop: 0 }
  for (let i = 0; i < count; i++) ends[load.judge(from + (i * milliseconds) / count, source(i), proven)]++
  return ends
}

test('2,000 honest peers that come at once are served, from as many addresses or from one', () => {
  assert.equal(send(new Load(LIMIT), 1000, 0, 2000, honest).serve, 2000)
  assert.equal(send(new Load(LIMIT), 1000, 0, 2000, () => attacker).serve, 2000)
})

test('a flood from one address is asked for a cookie, and the others are not', () => {
  const load = new Load(LIMIT)
  for (let second = 0; second < 20; second++) {
    const time = second * 1000
    const flood = send(load, time, 500, 20_000, () => attacker)
    // its half of what was saved up, then its half of each second
    assert.ok(flood.serve <= (second === 0 ? 2500 : 550), `second ${second}: ${flood.serve}`)
    assert.equal(send(load, time + 500, 499, 400, honest).serve, 400, `second ${second}`)
  }
})

test('with right cookies a flood is bounded too, and others with cookies are served beside it', () => {
  const load = new Load(LIMIT)
  // spoofed addresses use up what is calculated without a question
  const spoof = (i: number): Ip => requireIp(`172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`, 'ip')
  let served = 0
  for (let second = 0; second < 10; second++) {
    const time = second * 1000
    served += send(load, time, 0, 10_000, spoof).serve
    const flood = send(load, time + 1, 0, 5000, () => attacker, yes)
    assert.equal(flood.serve + flood.drop, 5000)
    served += flood.serve
    const others = send(load, time + 2, 0, 300, honest, yes)
    assert.equal(others.serve, 300, `second ${second}`)
    served += others.serve
  }
  assert.ok(served <= 2 * LIMIT * (10 + 4), `${served} calculated in 10 s`)
})

test('memory is bounded however many addresses come, and given back', () => {
  const load = new Load(LIMIT)
  const six = (i: number): Ip => requireIp(`2001:db8:${(i >> 16).toString(16)}:${(i & 0xffff).toString(16)}::1`, 'ip')
  send(load, 0, 100, 50_000, six, yes)
  assert.ok(load.size <= 2 * 4096, `${load.size}`)
  load.judge(60_000, attacker, no)
  assert.ok(load.size <= 4096 + 1, `${load.size} after a minute of silence`)
})

test('a /64 is one source', () => {
  const load = new Load(LIMIT)
  const same = (i: number): Ip => requireIp(`2001:db8::${i.toString(16)}`, 'ip')
  assert.equal(send(load, 0, 0, 4000, same).serve, 2000)
})
