import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { GuideReader, readGuide } from '#test/kit/guide.ts'
import { eventually, type Lab } from '#test/kit/lab.ts'
import { Terminal } from '#test/kit/terminal.ts'

// The IPsec half of the tutorial, its text the input: every command as it stands there, each shown output checked.
const GUIDE = new URL('../../vectors/guides/ipsec.txt', import.meta.url).pathname
const IN_AGENT = /root@kind-[a-z0-9-]+:\/home\/cilium# $/
const HEX_KEY = /^[0-9a-f]{40}$/
/** As tcpdump shows it: both internal IPs, the key id as SPI. */
const ESP = /IP (10\.244\.\d+\.\d+) > (10\.244\.\d+\.\d+): ESP\(spi=(0x[0-9a-f]{8}),seq=0x[0-9a-f]+\), length \d+/g

export async function ipsecHalf(t: TestContext, lab: Lab): Promise<void> {
  const guide = new GuideReader(readGuide(GUIDE))
  await using first = await Terminal.open({ cwd: lab.examples, env: lab.env })
  await using second = await Terminal.open({ cwd: lab.examples, env: lab.env })
  const ok = async () => assert.equal((await first.run('echo $?')).trim(), '0')
  const shown = async (expected: RegExp) => (await first.run(guide.next(expected))).trim()

  let key = ''
  await t.test('a key in a secret', async () => {
    await first.run(guide.next(/^PSK=/))
    key = await shown(/^echo \$PSK/)
    assert.match(key, HEX_KEY)
    const created = await first.run(guide.next(/^kubectl create/).replaceAll('\\\n', ''))
    assert.match(created, /^secret\/cilium-ipsec-keys created/)
    await first.run(guide.next(/^SECRET=/))
    // the answer has no newline: the prompt follows it on the same line
    await first.run(guide.next(/^echo \$SECRET/))
    assert.ok(first.output.includes(`3 rfc4106(gcm(aes)) ${key} 128`), 'the secret is not as the guide shows it')
  })

  await t.test('cilium install, then status --wait', async () => {
    await first.run(guide.next(/^cilium install/).replaceAll('\\\n', ''), { seconds: 300 })
    await ok()
    const status = await first.run(guide.next(/^cilium status/), { seconds: 320 })
    await ok()
    assert.match(status, /Cilium:\s+OK/)
    assert.match(status, /DaemonSet\s+cilium\s+Desired: 4, Ready: 4\/4, Available: 4\/4/)
  })

  await t.test('the configuration says IPsec', async () => {
    assert.match(await first.run(guide.next(/^cilium config view/)), /^enable-ipsec +true$/m)
  })

  await t.test('the demo app runs', async () => {
    await first.run(guide.next(/^kubectl apply -f endor/))
    const get = guide.next(/^kubectl get -f endor/)
    await eventually('all of endor is ready', 240, async () => {
      const table = await first.run(get)
      const ready = ['deathstar', 'tiefighter', 'xwing'].every((name) =>
        new RegExp(`deployment.apps/${name}\\s+1/1`).test(table),
      )
      return ready ? true : undefined
    })
  })

  await t.test('a shell in an agent, with tcpdump', async () => {
    await first.run(guide.next(/^kubectl .* exec -ti ds\/cilium/), { prompt: IN_AGENT })
    await first.run(guide.next(/^apt-get update/), { prompt: IN_AGENT, seconds: 180 })
    await first.run(guide.next(/^apt-get -y install tcpdump/), { prompt: IN_AGENT, seconds: 180 })
    assert.equal((await first.run('echo $?', { prompt: IN_AGENT })).trim(), '0')
  })

  const capture = guide.next(/^tcpdump -n -i cilium_vxlan esp/)
  await t.test('ESP by key 3 between three and more agents, both ways', async () => {
    first.type(capture)
    await first.waitFor(/listening on cilium_vxlan/, 90)
    await eventually('three internal IPs on the wire', 180, async () => {
      const packets = [...first.output.matchAll(ESP)]
      const addresses = new Set(packets.flatMap(([, from, to]) => [from, to]))
      const pairs = new Set(packets.map(([, from, to]) => `${from} ${to}`))
      const answered = packets.some(([, from, to]) => pairs.has(`${to} ${from}`))
      return addresses.size >= 3 && answered ? true : undefined
    })
    const ids = new Set([...first.output.matchAll(ESP)].map(([, , , spi]) => spi))
    assert.deepEqual([...ids], ['0x00000003'])
    first.interrupt()
    await first.waitFor(IN_AGENT, 60)
  })

  await t.test('the key is rotated by kubectl patch', async () => {
    await first.run(guide.next(/^exit/))
    await first.run(guide.next(/^read KEYID/))
    assert.equal(await shown(/^echo \$KEYID/), '3')
    assert.equal(await shown(/^echo \$PSK/), key)
    await first.run(guide.next(/^NEW_PSK=/))
    const next = await shown(/^echo \$NEW_PSK/)
    assert.match(next, HEX_KEY)
    assert.notEqual(next, key)
    await first.run(guide.next(/^patch=/))
    assert.match(await first.run(guide.next(/^kubectl patch secret/)), /^secret\/cilium-ipsec-keys patched$/m)
    await first.run(guide.next(/^read NEWKEYID/))
    assert.equal(await shown(/^echo \$NEWKEYID/), '4')
    assert.equal(await shown(/^echo \$NEWPSK/), next)
  })

  await t.test('and then everything goes by key 4', async () => {
    await second.run('kubectl -n kube-system exec -ti ds/cilium -- bash', { prompt: IN_AGENT })
    await eventually('only key 4 on the wire', 180, async () => {
      second.type(`timeout 3 ${capture} | cat`)
      await second.waitFor(/packets? captured[^]*cilium# $/, 90)
      const ids = new Set([...second.output.matchAll(ESP)].map(([, , , spi]) => spi))
      return ids.size === 1 && ids.has('0x00000004') ? true : undefined
    })
  })

  assert.ok(guide.done, 'a command of the guide was not run')
}
