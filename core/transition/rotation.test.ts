import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KeyFingerprint, KeyRef } from '#core/ipsec/key.ts'
import { type IpsecWords, parseIpsecWords } from '#core/ipsec/words.ts'
import { type RotationOwn, type RotationSources, type RotationView, rotate } from './rotation.ts'
import { type Kept, keepTexts } from './rotation-operator.ts'

const fingerprint = (letter: string) => letter.repeat(16) as KeyFingerprint
/** `3a` is id 3, of which the fingerprint is all `a`. */
const key = (text: string): KeyRef => ({ id: Number(text.slice(0, -1)), fingerprint: fingerprint(text.slice(-1)) })
const keys = (text: string) =>
  text
    .split(' ')
    .filter((word) => word !== '')
    .map(key)
/** `3a 4b|3a`: receives, sends. */
function words(text: string): IpsecWords {
  const [receives = '', sends = ''] = text.split('|')
  return { receives: keys(receives), sends: keys(sends) }
}
const shown = (list: readonly KeyRef[]) => list.map(({ id, fingerprint: f }) => `${id}${f[0]}`).join(' ')
const said = ({ receives, sends }: IpsecWords) => `${shown(receives)}|${shown(sends)}`

function view(
  text: {
    kept?: string
    user?: string
    said?: readonly string[]
    installed?: string
    sending?: Record<string, string>
  },
  peers: Readonly<Record<string, string | undefined>> = {},
  more: Partial<Omit<RotationView, 'sources' | 'own'>> & {
    readonly sources?: Partial<RotationSources>
    readonly own?: Partial<RotationOwn>
  } = {},
): RotationView {
  const kept = keys(text.kept ?? '')
  const user = keys(text.user ?? '')
  const list = (text.said ?? []).map(words)
  const installed = text.installed === undefined ? undefined : keys(text.installed)
  const known = [...kept, ...user, ...(installed ?? []), ...list.flatMap(({ receives }) => receives)]
  const sending = new Map(Object.entries(text.sending ?? {}).map(([name, each]) => [name, key(each)]))
  const { sources, own, ...rest } = more
  return {
    sources: { kept, retired: [], user, operator: true, unusable: [], ...sources },
    own: { known, said: list, installed, sending, ...own },
    peers: Object.entries(peers).map(([name, each]) => ({ name, words: each === undefined ? undefined : words(each) })),
    forced: [],
    now: 10_000,
    quiet: undefined,
    ...rest,
  }
}

test('words are read as they were written', () => {
  const text = 'receives=3:aaaaaaaaaaaaaaaa,15:bbbbbbbbbbbbbbbb sends='
  assert.equal(said(parseIpsecWords(text)!), '3a 15b|')
})

test('one node goes through a rotation step by step', () => {
  const peers = { b: '3a|3a', c: '3a|3a' }
  const before = { kept: '3a', user: '3a', said: ['3a|3a'], installed: '3a', sending: { b: '3a', c: '3a' } }
  const steady = rotate(view(before, peers))
  assert.deepEqual([steady.step, steady.phase, steady.text], ['wait', 'steady', 'key 3 (aaaaaaaaaaaaaaaa)'])
  // the text is kept: receive first
  const kept = { ...before, kept: '3a 4b', user: '4b' }
  const first = rotate(view(kept, peers))
  assert.deepEqual([first.step, shown(first.receive), said(first.words)], ['apply', '3a 4b', '3a|3a'])
  // installed: say so, whatever others do
  const installed = { ...kept, installed: '3a 4b' }
  const second = rotate(view(installed, { b: '3a 4b|3a', c: '3a|3a' }))
  assert.deepEqual([second.step, said(second.words), shown([second.send.get('b')!])], ['publish', '3a 4b|3a', '3a'])
  // said: each pair by itself
  const announced = { ...installed, said: ['3a 4b|3a'] }
  const third = rotate(view(announced, { b: '3a 4b|3a', c: '3a|3a' }))
  assert.deepEqual([third.step, shown([...third.send.values()])], ['apply', '4b 3a'])
  assert.deepEqual(third.waitingFor, ['b', 'c'])
  assert.match(third.text, /^from key 3 .* to 4 .*: 1 of 2 other nodes have it, 0 are sent to by it, waiting for b, c$/)
  // switched, behind the barrier: say so
  const switched = { ...announced, sending: { b: '4b', c: '4b' } }
  const others = { b: '3a 4b|3a 4b', c: '4b|4b' }
  const fourth = rotate(view(switched, others))
  assert.deepEqual(
    [fourth.step, said(fourth.words), fourth.quiet, fourth.waitingFor],
    ['publish', '3a 4b|4b', undefined, ['b']],
  )
  // nobody can send by it any more: a second for what is in flight
  const alone = { ...switched, said: ['3a 4b|4b'] }
  const after = { b: '3a 4b|4b', c: '4b|4b' }
  const fifth = rotate(view(alone, after))
  assert.deepEqual([fifth.step, fifth.quiet, fifth.wakeAt], ['wait', { key: key('3a'), since: 10_000 }, 11_000])
  assert.equal(rotate(view(alone, after, { now: 10_999, quiet: fifth.quiet })).step, 'wait')
  const sixth = rotate(view(alone, after, { now: 11_000, quiet: fifth.quiet }))
  assert.deepEqual([sixth.step, said(sixth.words), shown(sixth.receive)], ['publish', '4b|4b', '3a 4b'])
  const seventh = rotate(view({ ...alone, said: ['4b|4b'] }, after, { now: 11_001, quiet: sixth.quiet }))
  assert.deepEqual([seventh.step, shown(seventh.receive)], ['apply', '4b'])
  const end = rotate(view({ ...alone, said: ['4b|4b'], installed: '4b' }, after))
  assert.deepEqual([end.step, end.phase], ['wait', 'steady'])
})

test('one that is new is not sent to yet, and what it may send by is kept', () => {
  const alone = { kept: '3a 4b', said: ['3a 4b|4b'], installed: '3a 4b', sending: { b: '4b' } }
  const quiet = { key: key('3a'), since: 9000 }
  const peers = (isNew: boolean) => [
    { name: 'b', words: words('3a 4b|4b') },
    { name: 'c', words: words('3a|3a'), isNew },
  ]
  const before = rotate(view(alone, {}, { peers: peers(true), quiet }))
  assert.deepEqual([before.step, [...before.send.keys()], before.waitingFor], ['wait', ['b'], ['c']])
  assert.deepEqual([shown(before.receive), before.quiet], ['3a 4b', undefined])
  const steady = { kept: '3a', said: ['3a|'], installed: '3a' }
  for (const [isNew, sentTo] of [
    [true, []],
    [false, ['c']],
  ] as const) {
    const after = rotate(view(steady, {}, { peers: [{ name: 'c', words: words('3a|3a'), isNew }] }))
    assert.deepEqual([...after.send.keys()], sentTo)
  }
})

test('nothing is sent before this node has said something, nor to one that has not', () => {
  const first = rotate(view({ kept: '3a', installed: '' }, { b: '3a|3a' }))
  assert.deepEqual([first.step, shown(first.receive), first.send.size], ['apply', '3a', 0])
  const installed = rotate(view({ kept: '3a', installed: '3a' }, { b: '3a|3a' }))
  assert.deepEqual([installed.step, said(installed.words), installed.send.size], ['publish', '3a|', 0])
  const announced = rotate(view({ kept: '3a', installed: '3a', said: ['3a|'] }, { b: '3a|3a', c: undefined }))
  assert.deepEqual([announced.step, [...announced.send.keys()]], ['apply', ['b']])
})

test('what was given up is not sent by again, though a newcomer has nothing else', () => {
  const text = { kept: '3a 4b', installed: '3a 4b', sending: { b: '4b' } }
  const peers = { b: '3a 4b|4b', late: '3a|' }
  assert.deepEqual([...rotate(view({ ...text, said: ['3a 4b|4b'] }, peers)).send.keys()], ['b'])
  // it may be what others see, though no answer came
  assert.deepEqual([...rotate(view({ ...text, said: ['3a 4b|3a 4b', '3a 4b|4b'] }, peers)).send.keys()], ['b'])
  assert.deepEqual([...rotate(view({ ...text, said: ['3a 4b|4b', '3a 4b|3a 4b'] }, peers)).send.keys()], ['b'])
  assert.deepEqual([...rotate(view({ ...text, said: ['3a 4b|3a 4b'] }, peers)).send.keys()], ['b', 'late'])
  assert.deepEqual(rotate(view({ ...text, said: ['3a 4b|4b'] }, peers)).waitingFor, ['late'])
})

test('an agent that starts anew goes on where its words were', () => {
  const first = rotate(view({ kept: '3a 4b', said: ['3a 4b|3a 4b'] }, { b: '3a 4b|4b', c: '3a|3a' }))
  assert.deepEqual([first.step, shown(first.receive), shown([...first.send.values()])], ['apply', '3a 4b', '4b 3a'])
  // what the datapath has from before goes before anything comes: it may have the id of what comes
  for (const saying of [[], ['3a|3a']]) {
    const leftover = rotate(view({ kept: '3a 4b', said: saying }, { b: '3a|3a' }))
    assert.deepEqual([leftover.step, shown(leftover.receive)], ['apply', saying.length === 0 ? '' : '3a'])
  }
  // retired, and not taken again although the operator still keeps it
  const late = rotate(view({ kept: '3a 4b', said: ['4b|4b'] }, { b: '3a 4b|4b' }))
  assert.equal(shown(late.receive), '4b')
})

test('a third key waits, an id that is held is not given away', () => {
  const two = { kept: '4b 5c', installed: '3a 4b', said: ['3a 4b|4b'], sending: { b: '4b' } }
  assert.equal(shown(rotate(view(two, { b: '3a 4b|3a' })).receive), '3a 4b')
  const clash = { kept: '3x', installed: '3a', said: ['3a|3a'], sending: { b: '3a' } }
  assert.equal(shown(rotate(view(clash, { b: '3a|3a' })).receive), '3a')
  // when nobody has the old one any more it goes, alone as it is
  const forgotten = rotate(view({ ...clash, said: ['3a|'], sending: {} }, { b: '3x|3x' }))
  assert.deepEqual(forgotten.quiet?.key, key('3a'))
  const { quiet } = forgotten
  const over = rotate(view({ ...clash, said: ['|'], sending: {} }, { b: '3x|3x' }, { now: 12_000, quiet }))
  assert.deepEqual([over.step, shown(over.receive)], ['apply', ''])
  assert.equal(shown(rotate(view({ kept: '3x', installed: '', said: ['|'] }, { b: '3x|3x' })).receive), '3x')
})

test('a node that everybody has overtaken catches up', () => {
  const text = { kept: '6d', installed: '3a 4b', said: ['3a 4b|'] }
  const first = rotate(view(text, { b: '6d|6d' }))
  assert.deepEqual([first.quiet?.key, first.waitingFor], [key('3a'), []])
  const taken = rotate(view({ ...text, installed: '4b', said: ['4b|'] }, { b: '6d|6d' }))
  assert.equal(shown(taken.receive), '4b 6d')
})

test('a key is let go only when this node and every other can do without it', () => {
  const text = { kept: '3a 4b', installed: '3a 4b', said: ['3a 4b|4b'], sending: { b: '4b' } }
  const isLetGo = (own: typeof text, b = '3a 4b|4b') => rotate(view(own, { b })).quiet !== undefined
  assert.ok(isLetGo(text))
  assert.ok(!isLetGo({ ...text, sending: { b: '3a' } }), 'sends by it')
  assert.ok(!isLetGo({ ...text, said: ['3a 4b|3a 4b'] }), 'has said that it sends by it')
  assert.ok(!isLetGo({ ...text, said: ['3a 4b|3a 4b', '3a 4b|4b'] }), 'may be seen to send by it')
  assert.ok(!isLetGo({ ...text, said: ['3a|'], sending: { b: '4b' } }), 'has not said that it receives by the new one')
  for (const b of ['3a 4b|3a 4b', '3a|', '3a 5c|5c']) assert.ok(!isLetGo(text, b), b)
})

test('a node that starts in the middle has both keys', () => {
  assert.equal(shown(rotate(view({ kept: '3a 4b', user: '4b', installed: '' }, { b: '3a|3a' })).receive), '3a 4b')
  assert.equal(
    shown(rotate(view({ user: '3a 4b', installed: '' })).receive),
    '3a 4b',
    'two lines of the user, before the operator has run',
  )
})

test('who is gone, silent or forced is not waited for; who is only away is', () => {
  const text = { kept: '3a 4b', installed: '3a 4b', said: ['3a 4b|4b'], sending: { b: '4b' } }
  const peers = { b: '4b|4b', new: undefined, idle: '|' }
  assert.deepEqual(rotate(view(text, peers)).quiet?.key, key('3a'))
  const away = { ...peers, away: '3a|3a' }
  assert.deepEqual(rotate(view(text, away)).waitingFor, ['away'])
  const forced = rotate(view({ ...text, said: ['3a 4b|3a 4b'] }, away, { forced: ['away'] }))
  assert.deepEqual([forced.waitingFor, [...forced.send.keys()]], [[], ['b']])
})

test('nodes that came by their keys in another order wait for each other', () => {
  // without an operator: to the peer, 3a is the newest, so it may begin to send by it at any time
  const text = { user: '4b', installed: '3a 4b', said: ['3a 4b|4b'] }
  const direct = { sources: { operator: false } }
  assert.deepEqual(rotate(view(text, { b: '4b 3a|4b' }, direct)).waitingFor, ['b'])
  assert.deepEqual(rotate(view(text, { b: '3a 4b|4b' }, direct)).waitingFor, [])
})

test('problems name what is wrong, where, and what to do', () => {
  const text = { kept: '3a', installed: '3a', said: ['3a|3a'], sending: { b: '3a' } }
  const two = { kept: '3a 4b', installed: '3a 4b', said: ['3a 4b|3a'] }
  const codes = (it: RotationView) => rotate(it).problems.map(({ code, object }) => `${code} ${object}`)
  const secret = 'Secret/cilium-ipsec-keys'
  for (const [it, expected] of [
    [view({ ...text, user: '3a' }, { b: '3a|3a' }), []],
    [view({ ...text, user: '4b' }, { b: '3a|3a' }), []],
    [view({ ...text, user: '3x' }), [`ipsec.rotation.same-id ${secret}`]],
    [view({ ...text, user: '4a' }), [`ipsec.rotation.same-key ${secret}`]],
    [
      view({ ...text, user: '4b' }, {}, { sources: { retired: [fingerprint('b')] } }),
      [`ipsec.rotation.used-before ${secret}`],
    ],
    [view({ ...two, user: '3a' }), [`ipsec.rotation.put-back ${secret}`]],
    [view({ ...two, user: '5c' }), [`ipsec.rotation.third-key ${secret}`]],
    [view(text, { b: '3x|3x' }), ['ipsec.rotation.peer-text CiliumNode/b']],
    [view(text, { b: '5c|5c' }), ['ipsec.rotation.no-common-key CiliumNode/b']],
    [view(two, {}, { own: { known: keys('4b') } }), [`ipsec.rotation.lost-text ${secret}`]],
    [
      view(
        { ...text, kept: '3a 4b' },
        {},
        { sources: { unusable: [{ key: key('4b'), missing: 'none', remedy: 'Wait.' }] } },
      ),
      [`ipsec.rotation.unusable ${secret}`],
    ],
  ] as const) {
    assert.deepEqual(codes(it), expected)
    for (const { message, remedy } of rotate(it).problems)
      assert.ok((message !== '' && remedy.endsWith('.')) || remedy.endsWith(').'))
  }
})

const kept = (texts: string, retired = '', forced: readonly string[] = []): Kept => ({
  texts: keys(texts),
  retired: retired.split('').map(fingerprint),
  forced,
})

test('the operator keeps what is alive, in one order', () => {
  for (const [before, user, nodes, after, retired, problem] of [
    ['', '3a', {}, '3a', '', ''],
    ['', '3a 4b', {}, '3a 4b', '', ''],
    ['3a', '3a', { b: '3a|3a' }, '3a', '', ''],
    ['3a', '4b', { b: '3a|3a' }, '3a 4b', '', ''],
    ['3a', '9b', { b: '3a|3a' }, '3a 9b', '', ''],
    ['15a', '1b', { b: '15a|15a' }, '15a 1b', '', ''],
    ['3a', '3x', { b: '3a|3a' }, '3a', '', 'same-id'],
    ['3a', '4a', { b: '3a|3a' }, '3a', '', 'same-key'],
    ['4b', '3x', { b: '3a 4b|4b' }, '4b', '', 'same-id'], // somebody still holds the id
    ['3a 4b', '4b', { b: '3a 4b|4b', c: '4b|4b' }, '3a 4b', '', ''],
    ['3a 4b', '4b', { b: '4b|3a 4b' }, '3a 4b', '', ''],
    ['3a 4b', '4b', { b: '3a 4b|4b', c: undefined }, '3a 4b', '', ''],
    ['3a 4b', '4b', { b: '4b|4b', c: undefined, d: '|' }, '4b', 'a', ''],
    ['3a 4b', '4b', { b: '2z|2z' }, '3a 4b', '', ''], // words from before
    ['3a 4b', '5c', { b: '3a 4b|4b' }, '3a 4b', '', 'third-key'],
    ['3a 4b', '5c', { b: '4b|4b' }, '4b 5c', 'a', ''],
    ['3a 4b', '3a', { b: '3a 4b|4b' }, '3a 4b', '', 'put-back'],
    ['3a 4b', '3a', { b: '4b|4b' }, '4b', 'a', 'used-before'],
  ] as const) {
    const list = Object.entries(nodes as Record<string, string | undefined>)
    const it = keepTexts({
      wanted: true,
      kept: kept(before),
      user: keys(user),
      nodes: list.map(([name, each]) => ({ name, words: each === undefined ? undefined : words(each) })),
      unusable: [],
    })
    const found = [
      shown(it.kept.texts),
      it.kept.retired.map((f) => f[0]).join(''),
      it.problems.map(({ code }) => code).join(),
    ]
    assert.deepEqual(found, [after, retired, problem === '' ? '' : `ipsec.rotation.${problem}`], `${before} ${user}`)
    assert.equal(it.changed, after !== before)
  }
})

test('the operator waits for a node that is away until it is told not to', () => {
  const nodes = [
    { name: 'b', words: words('4b|4b') },
    { name: 'away', words: words('3a|3a') },
  ]
  const waiting = keepTexts({ wanted: true, kept: kept('3a 4b'), user: keys('4b'), nodes, unusable: [] })
  assert.deepEqual([waiting.waitingFor, waiting.changed], [['away'], false])
  const forced = keepTexts({ wanted: true, kept: kept('3a 4b', '', ['away']), user: keys('4b'), nodes, unusable: [] })
  assert.deepEqual([shown(forced.kept.texts), forced.kept.forced], ['4b', []])
  const idle = keepTexts({ wanted: true, kept: kept('4b', '', ['away']), user: keys('4b'), nodes, unusable: [] })
  assert.deepEqual([idle.kept.forced, idle.changed], [[], true])
})

test('where the operator keeps nothing, its Secret being there, a node does not begin by what it finds for itself', () => {
  const start = { user: '3b', installed: '' }
  assert.equal(shown(rotate(view(start)).receive), '3b')
  const it = rotate(view(start, {}, { sources: { isKeeping: true } }))
  assert.deepEqual([shown(it.receive), it.text], ['', 'no key yet: key 3 waits for the operator to take it up'])
})

test('a key that the operator has let go is let go though not all have the same newer one', () => {
  const at = { kept: '4b 5c', said: ['3a 4b|4b'], installed: '3a 4b', sending: { b: '4b' } }
  const over = { now: 20_000, quiet: { key: key('3a'), since: 10_000 } }
  assert.equal(shown(rotate(view(at, { b: '4b 5c|4b', c: '3a 5c|5c' }, over)).words.receives), '4b')
  for (const c of ['3a 5c|3a', '3a|', '5c 3a|']) {
    const waiting = rotate(view(at, { b: '4b 5c|4b', c }, over))
    assert.deepEqual([shown(waiting.words.receives), waiting.waitingFor], ['3a 4b', ['c']])
  }
})
