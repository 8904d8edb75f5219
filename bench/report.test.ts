import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printGoals } from './goals.ts'
import { type Handshakes, printHandshakes } from './handshakes.ts'
import { printLosses } from './losses.ts'
import { picture } from './picture.ts'
import { print, type Result, type Row, ratios } from './report.ts'
import { figure } from './statistics.ts'

const row = (name: string, kind: Row['kind'], ours: boolean, tcp1: number, p50: number): Row => {
  const [stream, trip] = [figure([tcp1]), figure([p50])]
  assert.ok(stream !== undefined && trip !== undefined)
  return { name, kind, ours, mtu: 1420, tcp1: stream, p50: trip }
}
const rows = [
  row('veth, no tunnel', 'none', false, 30, 5),
  row('wireguard-go', 'wireguard', false, 2, 300),
  row('boringtun', 'wireguard', false, 1, 100),
  row('strongSwan libipsec', 'ipsec', false, 0.5, 200),
  row('pellicle', 'wireguard', true, 5, 150),
  row('pellicle ESP', 'ipsec', true, 1.5, 50),
]
const result: Result = { where: 'namespaces', wire: 'whole', rows, ratios: ratios(rows) }

test('ours against the reference of its kind, and against the best of it column by column', () => {
  assert.deepEqual(result.ratios, [
    { ours: 'pellicle', against: 'wireguard-go', values: { tcp1: 2.5, p50: 0.5 } },
    { ours: 'pellicle', against: 'best peer', values: { tcp1: 2.5, p50: 1.5 } },
    { ours: 'pellicle ESP', against: 'strongSwan libipsec', values: { tcp1: 3, p50: 0.25 } },
  ])
})

test('what is lost is marked as plainly as what is won; columns that nobody has are left out', () => {
  const text = print(result)
  assert.match(text, /^pellicle ÷ best peer +2\.50 ✓ +1\.50 ✗$/m)
  assert.ok(!text.includes('CPU'))
})

test('goals say reached, stretch or missed', () => {
  const text = printGoals([result])
  assert.match(text, /^WireGuard TCP×1 ÷ wireguard-go +2\.50 +- +2\.3 +3 +✓ reached$/m)
  assert.match(text, /^WireGuard ping p50 ÷ best peer +1\.50 +- +1 +0\.5 +✗ missed$/m)
  assert.match(text, /^ESP native TCP×1 ÷ strongSwan libipsec +3\.00 +- +4 +8 +✗ missed$/m)
})

test('the picture has a bar for everybody but the bare wire', () => {
  const machine = {
    cpu: 'A & B',
    cores: 2,
    memoryMib: 4096,
    features: [],
    kernel: '6.18',
    iperf3: '3',
    node: '26',
    commit: 'x',
  }
  const svg = picture([result], machine)
  for (const { name } of rows.slice(1)) assert.ok(svg.includes(`>${name}</text>`), name)
  assert.ok(!svg.includes('no tunnel') && svg.includes('A &amp; B'))
})

const one = (value: number) => {
  const found = figure([value])
  assert.ok(found !== undefined)
  return found
}

test('handshakes: a ratio by CPU time; who does not bring all up says so', () => {
  const handshakes: Handshakes = {
    initiators: 2000,
    notes: [],
    rows: [
      { name: 'wireguard-go', ours: false, perCore: one(3000), perSecond: one(2500), up: one(4) },
      { name: 'pellicle', ours: true, perCore: one(1500), perSecond: one(1400), up: one(100), last: one(1.25) },
    ],
  }
  const goals = printGoals([], handshakes)
  assert.match(goals, /^handshakes per core and s ÷ wireguard-go +0\.50 +- +1 +2 +✗ missed$/m)
  assert.match(goals, /^2000 peers at once, all up after s +1\.25 +- +3 +1\.5 +✓ stretch$/m)
  assert.match(printHandshakes(handshakes), /^wireguard-go +3000 +2500 +4\.00 +not all$/m)
  const never = { ...handshakes, rows: [{ name: 'pellicle', ours: true }] }
  assert.match(printGoals([], never), /all up after s +never .*✗ missed$/m)
})

test('losses: a range where rounds differ, a bound where nothing came back, columns that nobody has are left out', () => {
  const range = figure([3, 1, 20])
  assert.ok(range !== undefined)
  const text = printLosses({
    rate: 1000,
    stream: '500M',
    wait: 20,
    notes: [],
    rows: [
      { name: 'gotatun', ours: false, events: { key: { lost: one(20_500), gaveUp: 1 } } },
      {
        name: 'pellicle',
        ours: true,
        events: { engine: { lost: range, gaveUp: 0 }, key: { lost: one(0), gaveUp: 0 } },
      },
    ],
  })
  assert.match(text, /^packets lost +engine killed +new key of a$/m)
  assert.match(text, /^gotatun +- +≥ 20500$/m)
  assert.match(text, /^pellicle +3 \[1-20\] +0$/m)
})
