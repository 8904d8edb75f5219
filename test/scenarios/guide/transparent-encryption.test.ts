import assert from 'node:assert/strict'
import { test } from 'node:test'
import { everyLevel } from '#test/kit/announcements.ts'
import { GuideReader, readGuide } from '#test/kit/guide.ts'
import { eventually, labFor } from '#test/kit/lab.ts'

// The guide to IPsec, its text the input. With three nodes, so that "Keys in use: 4" is literal.
const GUIDE = new URL('../../vectors/guides/transparent-encryption.txt', import.meta.url).pathname

test('the IPsec guide runs word for word', { timeout: 1_200_000 }, async (t) => {
  await using lab = await labFor(t, 'guide', ['--nodes', '3'])
  if (lab === undefined) return
  const guide = new GuideReader(readGuide(GUIDE))
  const agent = (command: string) => lab.sh(`kubectl -n kube-system exec ds/cilium -c cilium-agent -- ${command}`)

  await t.test('a secret in the wrong namespace is found and named', async () => {
    const create = guide.next(/^kubectl create -n kube-system secret generic cilium-ipsec-keys/)
    await lab.sh(create.replace('-n kube-system', '-n default'))
    const install = guide.next(/^kubectl -n kube-system get secrets/)
    await assert.rejects(lab.sh(install), /NotFound/)
    await lab.sh('kubectl -n default delete secret cilium-ipsec-keys')
    await lab.sh(create)
    const listed = await lab.sh(install)
    assert.match(listed, /^NAME +TYPE +DATA +AGE\ncilium-ipsec-keys +Opaque +1 +\d+s$/m)
  })

  await t.test('cilium install', async () => {
    await lab.sh(guide.next(/^cilium install --version 1\.17\.0/), 300)
    await lab.sh('cilium status --wait', 320)
  })

  await t.test('cilium-dbg encrypt status', async () => {
    const command = guide.next(/^cilium-dbg encrypt status/)
    const status = await eventually('packets were sent by both keys', 120, async () => {
      const text = await agent(command)
      return /Max Seq\. Number: 0x/.test(text) && text.includes('Keys in use: 4') ? text : undefined
    })
    const lines = status.split('\n').map((line) => line.trimEnd())
    assert.equal(lines[0], 'Encryption: IPsec')
    assert.match(lines[1] ?? '', /^Decryption interface\(s\): \S+(, \S+)*$/)
    assert.equal(lines[2], 'Keys in use: 4')
    assert.match(lines[3] ?? '', /^Max Seq\. Number: 0x[0-9a-f]+\/0xffffffff$/)
    // agents start at different moments: a greeting may come before its sender's boot id was read, and is sent again
    assert.match(status, /^Errors: (0|(\d+) +\n\tXfrmInNoStates: \2) *$/m)
  })

  await t.test('encryption is disabled by the values alone', async () => {
    await lab.sh('cilium upgrade --set encryption.enabled=false', 300)
    await lab.sh('cilium status --wait', 320)
    await everyLevel(lab, 0, 3)
    await eventually('nothing is encrypted any more', 120, async () =>
      (await agent('cilium-dbg encrypt status')).startsWith('Encryption: Disabled') ? true : undefined,
    )
    for (const node of ['control-plane', 'worker', 'worker2']) {
      await eventually(`nothing of it is left on ${node}`, 120, async () => {
        const left = await lab.node(`${lab.name}-${node}`, 'ip -o link; ip rule; ip -4 route show table all')
        assert.doesNotMatch(left, /pellicle_ipsec|0xe00/, left)
        return true
      })
    }
  })

  assert.ok(guide.done, 'a command of the guide was not run')
})
