import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { labFor } from '#test/kit/lab.ts'

/**
 * The runtime's side of CNI by the specification's own `cnitool`: in a node of a real cluster, with the executable and the
 * configuration that the agent put there, against the agent that runs there. No pod of the cluster is on that node: GC
 * would take away its network.
 */
const NAME = 'pcnt'
const NODE = `${NAME}-worker`
const FOLDER = '/run/cnitool'

interface CniResult {
  readonly cniVersion: string
  readonly interfaces: readonly { readonly name: string; readonly mac: string; readonly sandbox?: string }[]
  readonly ips: readonly { readonly address: string; readonly gateway: string; readonly interface: number }[]
  readonly routes: readonly { readonly dst: string }[]
}

test('cnitool: ADD, CHECK, DEL, GC and STATUS through the executable of a node', async (t) => {
  const lab = await labFor(t, NAME, ['--nodes', '2'])
  if (lab === undefined) return
  await using _ = lab
  await lab.sh(`kubectl cordon ${NODE}`)
  await lab.sh('cilium install --set encryption.enabled=false && cilium status --wait', 300)
  const node = async (script: string) => await lab.node(NODE, script)
  const tool = async (command: string, space: string, folder = 'now') =>
    await node(
      `NETCONFPATH=${FOLDER}/${folder} CNI_PATH=/opt/cni/bin cnitool ${command} cilium /run/netns/${space} 2>&1`,
    )
  const devices = async () =>
    (await node('ip -o link show'))
      .match(/\blxc[0-9a-f]{12}\b/g)
      ?.filter((name, at, all) => all.indexOf(name) === at) ?? []
  /** The message of a call that fails. */
  const failure = async (call: Promise<string>) => {
    const error = await call.then(
      () => undefined,
      (reason: unknown) => reason as { stdout: string },
    )
    assert.ok(error !== undefined, 'it went well')
    return error.stdout
  }
  // what the agent wrote, in the version that has GC and STATUS; and the same with an agent that is not there
  await node(`mkdir -p ${FOLDER}/now ${FOLDER}/away
    jq '.cniVersion = "1.1.0"' /etc/cni/net.d/05-cilium.conflist >${FOLDER}/now/cilium.conflist
    jq '.plugins[0].socket = "/run/nobody.sock"' ${FOLDER}/now/cilium.conflist >${FOLDER}/away/cilium.conflist
    for space in one two; do ip netns add $space; done`)
  const before = await devices()

  await t.test('STATUS', async () => {
    assert.equal(await tool('status', 'one'), '')
    assert.match(await failure(tool('status', 'one', 'away')), /nobody\.sock/)
  })

  let added: CniResult
  await t.test('ADD gives the pod a device and an address of the node, and says so', async () => {
    added = JSON.parse(await tool('add', 'one')) as CniResult
    const cidr = (await lab.sh(`kubectl get node ${NODE} -o jsonpath='{.spec.podCIDR}'`)).trim()
    assert.equal(added.cniVersion, '1.1.0')
    const [address] = added.ips
    assert.ok(address?.address.startsWith(cidr.replace(/\.0\/24$/, '.')), `${address?.address} of ${cidr}`)
    assert.deepEqual((await devices()).length, before.length + 1)
    const inside = await node('ip -n one -o -4 addr show eth0')
    assert.ok(inside.includes(address?.address ?? '?'), inside)
    await node(`ping -c 1 -w 50 ${address?.address.split('/')[0]}`)
  })

  await t.test('CHECK holds, and does not when the address is gone', async () => {
    assert.equal(await tool('check', 'one'), '')
    const [address] = added.ips
    await node(`ip -n one addr del ${address?.address} dev eth0`)
    assert.match(await failure(tool('check', 'one')), new RegExp(`${address?.address.split('/')[0]}`))
  })

  await t.test('DEL takes the device away, and may come again', async () => {
    for (const time of ['first', 'second']) {
      assert.equal(await tool('del', 'one'), '', time)
      assert.deepEqual(await devices(), before, time)
    }
  })

  await t.test('GC takes away what the runtime does not list, and nothing where it lists nothing at all', async () => {
    await tool('add', 'two')
    const [device] = (await devices()).filter((name) => !before.includes(name))
    // else cnitool would delete it itself before it calls GC
    await node('rm -rf /var/lib/cni/results')
    // cnitool sends no list, which the specification asks for: a runtime that forgets it must not cost every pod its network
    assert.match(await failure(tool('gc', 'two')), /valid-attachments/)
    const listing = async (valid: readonly object[]) => {
      const path = `${FOLDER}/now/cilium.conflist`
      await node(
        `jq '.plugins[0]["cni.dev/valid-attachments"] = ${JSON.stringify(valid)}' ${path} >${path}.new && mv ${path}.new ${path}`,
      )
      assert.equal(await tool('gc', 'two'), '')
    }
    const containerID = `cnitool-${createHash('sha512').update('/run/netns/two').digest('hex').slice(0, 20)}`
    await listing([{ containerID, ifname: 'eth0' }])
    assert.ok((await devices()).includes(device ?? '?'))
    await listing([])
    assert.deepEqual(await devices(), before)
  })
})
