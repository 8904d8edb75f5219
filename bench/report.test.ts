import assert from 'node:assert/strict'
import { test } from 'node:test'
import { printGoals } from './goals.ts'
import { picture } from './picture.ts'
import { print, type Result, type Row, ratios } from './report.ts'
import { figure } from './statistics.ts'

const row = (name: string, kind: Row['kind'], ours: boolean, tcp1: number, p50: number): Row => {
  const [stream, trip] = [figure([tcp1]), figure([p50])]
  assert.ok(stream !== undefined && trip !== undefined)
  return { name, kind, ours, tcp1: stream, p50: trip }
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
  const machine = { cpu: 'A & B', cores: 2, features: [], kernel: '6.18', iperf3: '3', node: '26', commit: 'x' }
  const svg = picture([result], machine)
  for (const { name } of rows.slice(1)) assert.ok(svg.includes(`>${name}</text>`), name)
  assert.ok(!svg.includes('no tunnel') && svg.includes('A &amp; B'))
})
