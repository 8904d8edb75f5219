import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { GuideReader, readGuide } from '#test/kit/guide.ts'
import { eventually, type Lab } from '#test/kit/lab.ts'
import { Terminal } from '#test/kit/terminal.ts'

// The WireGuard half of the tutorial, its text the input: every command as it stands there, each shown output checked.
const GUIDE = new URL('../../vectors/guides/wireguard.txt', import.meta.url).pathname
const IN_AGENT = /root@kind-worker2:\/home\/cilium# $/

export async function wireguardHalf(t: TestContext, lab: Lab): Promise<void> {
  const guide = new GuideReader(readGuide(GUIDE))
  await using first = await Terminal.open({ cwd: lab.examples, env: lab.env })
  await using second = await Terminal.open({ cwd: lab.examples, env: lab.env })
  const ok = async (terminal: Terminal) => assert.equal((await terminal.run('echo $?')).trim(), '0')

  await t.test('the kernel is recent enough', async () => {
    assert.match(await first.run(guide.next(/^uname/)), /^Linux /)
  })

  await t.test('cilium install, then status --wait', async () => {
    await first.run(guide.next(/^cilium install/).replaceAll('\\\n', ''), { seconds: 300 })
    await ok(first)
    const status = await first.run(guide.next(/^cilium status/), { seconds: 320 })
    await ok(first)
    assert.match(status, /Cilium:\s+OK/)
    assert.match(status, /Operator:\s+OK/)
    assert.match(status, /DaemonSet\s+cilium\s+Desired: 4, Ready: 4\/4, Available: 4\/4/)
  })

  let publicKey = ''
  await t.test("each node's public key is on its CiliumNode", async () => {
    // the answer has no newline: the prompt follows it on the same line
    await first.run(guide.next(/^kubectl get ciliumnode/).replaceAll('\\\n', ''))
    publicKey = /[A-Za-z0-9+/]{43}=/.exec(first.output)?.[0] ?? ''
    assert.notEqual(publicKey, '', first.output)
  })

  await t.test('a shell in the agent on kind-worker2', async () => {
    await first.run(guide.next(/^CILIUM_POD=/))
    assert.match(await first.run(guide.next(/^echo \$CILIUM_POD/)), /^pod\/cilium-[a-z0-9]+\n/)
    await first.run(guide.next(/^kubectl .* exec -ti/), { prompt: IN_AGENT })
  })

  await t.test('status names the key, the port and three peers', async () => {
    const line = await first.run(guide.next(/^cilium status \| grep/), { prompt: IN_AGENT })
    const shown =
      /^Encryption:\s+Wireguard\s+\[NodeEncryption: Disabled, cilium_wg0 \(Pubkey: (\S+), Port: 51871, Peers: 3\)\]/
    assert.match(line, shown)
    assert.equal(shown.exec(line)?.[1], publicKey)
  })

  await t.test('tcpdump is there, with or without a network', async () => {
    await first.run(guide.next(/^apt-get update/), { prompt: IN_AGENT, seconds: 180 })
    await first.run(guide.next(/^apt-get -y install tcpdump/), { prompt: IN_AGENT, seconds: 180 })
    assert.equal((await first.run('echo $?', { prompt: IN_AGENT })).trim(), '0')
  })

  await t.test('cilium_wg0 is silent before there are pods, then shows their ping', async () => {
    first.type(guide.next(/^tcpdump/))
    await first.waitFor(/listening on cilium_wg0/, 90)
    await new Promise((resolve) => setTimeout(resolve, 20_000))
    assert.doesNotMatch(first.output, / IP6? /, 'something spoke on cilium_wg0 before any pod did')

    await second.run(guide.next(/^kubectl apply/))
    const get = guide.next(/^kubectl get -f/)
    await eventually('both pods run', 180, async () => {
      const pods = await second.run(get)
      return /pod-worker\s+1\/1\s+Running[^]*pod-worker2\s+1\/1\s+Running/.test(pods) ? true : undefined
    })
    await second.run(guide.next(/^POD2=/))
    const address = (await second.run(guide.next(/^echo \$POD2/))).trim()
    assert.match(address, /^10\.244\.\d+\.\d+$/)
    second.type(guide.next(/^kubectl exec -ti pod-worker -- ping/))
    await second.waitFor(/64 bytes from .* icmp_seq=2/, 90)

    const captured = await first.waitFor(/echo reply, id \d+, seq 2, length 64/, 90)
    const request = /IP (10\.244\.\d+\.\d+) > (10\.244\.\d+\.\d+): ICMP echo request, id \d+, seq 1, length 64/.exec(
      captured,
    )
    assert.equal(request?.[2], address)
    assert.match(captured, new RegExp(`IP ${address} > ${request?.[1]}: ICMP echo reply, id \\d+, seq 1, length 64`))
    second.interrupt()
    const summary = await second.waitFor(/packet loss/, 60)
    const [, sent, got] = /(\d+) packets transmitted, (\d+) received/.exec(summary) ?? []
    // the one under way when ping was ended has no answer
    assert.ok(Number(sent) - Number(got) <= 1, summary)
    first.interrupt()
    await first.waitFor(IN_AGENT, 60)
  })

  assert.ok(guide.done, 'a command of the guide was not run')
}
