import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Family } from '#core/ip/address.ts'
import type { IpsecShape } from '#core/ipsec/shape.ts'
import type { PlanConfig } from '#core/plan/snapshot.ts'
import { SLOW, SLOW_HINT } from '#test/kit/slow.ts'
import { CONFIG, ipsecConfig } from '#test/kit/snapshots.ts'
import { both, type Change, lacking, type Situation, SteeringCluster, withoutLines } from './cluster.ts'
import { fetchAll, Server, Talker } from './talker.ts'

/** With IPsec: what pods ask other nodes themselves, and what these answer (docs/adr/0004-steering.md), each measure also taken out. */
const skip = lacking() ?? false
const later = SLOW ? false : SLOW_HINT
const POD1 = '10.244.1.10'
const POD2 = '10.244.2.10'
const NODE1 = '172.18.0.3'
const NODE2 = '172.18.0.4'
const NODE3 = '172.18.0.5'
const NODE2_6 = 'fc00:18::4'
const PORT = 7900
const MARKER = 'PELLICLE-MARKER!'
const native = { cidrs: CONFIG.clusterCidrs, directNodeRoutes: true }

const ipsec = (shape: IpsecShape) => ({ encryption: { ...CONFIG.encryption, ...ipsecConfig(shape).encryption } })

const WAYS = [
  ['ESP in UDP', ipsec('udp'), 'pellicle_ipsec'],
  ['ESP', ipsec('esp'), 'pellicle_ipsec'],
  ['ESP in VXLAN', ipsec('esp-in-vxlan'), 'pellicle_ipsec'],
  ['VXLAN in ESP', ipsec('vxlan-in-esp'), 'pellicle_ipsec'],
  ['ESP, native routing', { ...ipsec('esp'), native }, 'pellicle_ipsec'],
] as const satisfies readonly (readonly [string, Pick<PlanConfig, 'encryption'> & Partial<PlanConfig>, string])[]

const noDrops = withoutLines(/in_clear drop/)
const changeText =
  (from: RegExp, to: string): Change =>
  (host) => {
    const tables = host.tables.map((table) => ({ ...table, body: table.body.replaceAll(from, to) }))
    if (tables.every(({ body }, n) => body === host.tables[n]?.body)) throw new Error(`nothing is like ${from}`)
    return { ...host, tables }
  }
/** By the pod's address, and by the mark of answers. */
const noPodRule: Change = (host) => ({ ...host, rules: host.rules.filter(({ source }) => source === undefined) })
const noAnswerRule: Change = (host) => ({ ...host, rules: host.rules.filter(({ mark }) => mark !== 0xc00) })

for (const [name, config, device] of WAYS) {
  describe(name, { skip: skip || (name === 'ESP in UDP' ? false : later) }, () => {
    let cluster: SteeringCluster
    const closed: Situation = { levels: [3, 3], config }
    const without = (change: Change): Situation => ({ ...closed, without: change })
    const talker = async (where: string) => await Talker.start(cluster.path(where), PORT)
    before(async () => {
      cluster = await SteeringCluster.make(2)
    })
    after(async () => {
      await cluster?.close()
    })

    test('what a pod asks another node is not on the wire, nor is the answer', async () => {
      await cluster.be(closed)
      for (const target of [NODE2, NODE2_6]) {
        const seen = await cluster.watch('wire', 'br0', () => assert.ok(reaches(cluster, 'p1', target), target))
        assert.ok(!seen.marked, target)
      }
      const inner = await cluster.watch('n2', device, () => cluster.ping('p1', NODE2))
      assert.match(inner.lines, /172\.18\.0\.3 > 172\.18\.0\.4: ICMP echo request/, 'as its node')
      assert.match(inner.lines, /172\.18\.0\.4 > 172\.18\.0\.3: ICMP echo reply/)
      for (const device of ['all', 'eth0']) cluster.run('n2', `sysctl -qw net.ipv4.conf.${device}.rp_filter=1`)
      cluster.run('n1', 'sysctl -qw net.ipv4.conf.eth0.rp_filter=1')
      await cluster.be(closed)
      assert.ok(reaches(cluster, 'p1', NODE2), 'the network between the nodes as strict as some set it')
      const host = await cluster.watch('wire', 'br0', () => assert.ok(reaches(cluster, 'n1', NODE2)))
      assert.ok(host.marked, 'what its node itself asks is as it was')
      const near = await cluster.watch('n1', device, () => {
        assert.ok(reaches(cluster, 'n1', POD1))
        assert.ok(reaches(cluster, 'p1', NODE1))
      })
      assert.doesNotMatch(near.lines, /ICMP/, 'nor does anything leave its own node')
    })

    test('without the way for it, or without the device, it does not leave', { skip: later }, async () => {
      for (const [what, change, leaves] of [
        ['the rule for pods', noPodRule, false],
        ['rule and drops', both(noPodRule, noDrops), true],
      ] as const) {
        await cluster.be(without(change))
        const seen = await cluster.watch('wire', 'br0', () =>
          assert.equal(reaches(cluster, 'p1', NODE2, leaves), leaves, what),
        )
        assert.equal(seen.marked, leaves, what)
      }
      for (const [where, command] of [
        ['n1', `ip link set ${device} down`],
        // the answer alone: its question has come encrypted
        ['n2', 'ip route flush table 202'],
      ] as const) {
        for (const [change, leaves] of [
          [undefined, false],
          [noDrops, true],
        ] as const) {
          await cluster.be(change === undefined ? closed : without(change))
          cluster.run(where, command)
          const seen = await cluster.watch('wire', 'br0', () =>
            assert.equal(reaches(cluster, 'p1', NODE2, leaves), leaves, where),
          )
          assert.equal(seen.marked, leaves, where)
          assert.ok(reaches(cluster, 'n1', NODE2), 'nodes themselves need no tunnel')
          cluster.run('n1', `ip link set ${device} up`)
        }
      }
      await cluster.be(closed)
      assert.ok(reaches(cluster, 'p1', NODE2))
    })

    test('the answer goes as the question came', { skip: later }, async () => {
      for (const [what, change, leaves] of [
        ['the mark of answers', withoutLines(/^ {2}ct direction reply .*meta mark set/), false],
        ['the rule for it', noAnswerRule, false],
        ['rule and drops', both(noAnswerRule, noDrops), true],
      ] as const) {
        await cluster.be(without(change))
        const seen = await cluster.watch('wire', 'br0', () =>
          assert.equal(reaches(cluster, 'p1', NODE2, leaves), leaves, what),
        )
        assert.equal(seen.marked, leaves, what)
      }
      // nodes' own are told from pods': else they would need the tunnel
      for (const [change, answered] of [
        [undefined, true],
        [withoutLines(/^ {2}iifname != .*ct mark set/), false],
      ] as const) {
        await cluster.be(change === undefined ? closed : without(change))
        cluster.run('n2', `ip link set ${device} down`)
        assert.equal(reaches(cluster, 'n1', NODE2, answered), answered)
        cluster.run('n2', `ip link set ${device} up`)
      }
    })

    test('a connection older than encryption is answered encrypted, also where the node speaks first', async () => {
      for (const [change, leaves] of [
        [undefined, false],
        [both(changeText(/(ct mark & 0xf00) != 0xf00/g, '$1 == 0xe00'), noDrops), true],
      ] as const) {
        await cluster.be({ levels: [0, 0], config })
        await using pod = await talker('p1')
        await using node = await talker('n2')
        pod.say(NODE2, PORT, 'first')
        const [question] = await node.heard(1)
        const [ip, port] = (question ?? '').split(' ')
        assert.equal(ip, NODE1)
        for (const levels of [
          [1, 1],
          [2, 1],
          [2, 2],
          [3, 2],
          [3, 3],
        ] as const)
          await cluster.be({ levels, config, ...(change === undefined ? {} : { without: relaxed(change) }) })
        const seen = await cluster.watch('wire', 'br0', async () => {
          node.say(NODE1, Number(port), MARKER)
          assert.deepEqual(await pod.heard(1), [`${NODE2} ${PORT} ${MARKER}`])
        })
        assert.equal(seen.marked, leaves)
      }
    })

    test('nobody makes a node answer a pod in clear by saying something in clear', { skip: later }, async () => {
      for (const [change, leaves] of [
        [undefined, false],
        [both(changeText(/(iifname != .*) ct mark & 0xf00 != 0xe00/g, '$1'), noDrops), true],
      ] as const) {
        await cluster.be(change === undefined ? closed : without(change))
        await using pod = await talker('p1')
        await using node = await talker('n2')
        pod.say(NODE2, PORT, 'first')
        const [question] = await node.heard(1)
        const port = Number(question?.split(' ')[1])
        // somebody on the wire, as node 1: its own packets are marked so that they go past what stops them
        cluster.nft(1, forged(port))
        await using forger = await Talker.start(cluster.path('n1'), PORT + 1)
        forger.say(NODE2, PORT, 'forged')
        assert.match((await node.heard(2))[1] ?? '', new RegExp(`^${NODE1} ${port} forged`))
        cluster.nft(1, 'delete table ip pp_forged')
        const seen = await cluster.watch('wire', 'br0', async () => {
          node.say(NODE1, port, MARKER)
          await pod.heard(1)
        })
        assert.equal(seen.marked, leaves)
      }
    })

    test('an answer that is larger than what fits encrypted is cut', { skip: later }, async () => {
      await cluster.be(closed)
      await using pod = await talker('p1')
      await using node = await talker('n2')
      for (const target of [NODE2, NODE2_6]) {
        node.forget()
        pod.forget()
        pod.say(target, PORT, 'first')
        const [from, port] = ((await node.heard(1))[0] ?? '').split(' ')
        for (const length of [1400, 1450, 4000]) node.say(from ?? '', Number(port), 'x'.repeat(length))
        assert.deepEqual(
          (await pod.heard(3)).map((line) => line.length - `${target} ${PORT} `.length),
          [1400, 1450, 4000],
        )
      }
    })

    test('what a node answers by TCP fits encrypted, though the pod is older than IPsec', { skip: later }, async () => {
      for (const [change, told] of [
        [undefined, []],
        [withoutLines(/maxseg/), [6]],
        [withoutLines(/maxseg|frag-off/), [4, 6]],
      ] as const satisfies readonly (readonly [Change | undefined, readonly Family[]])[]) {
        await cluster.be(change === undefined ? closed : without(change))
        for (const [target, own, family] of [
          [NODE2, NODE1, 4],
          [NODE2_6, 'fc00:18::3', 6],
        ] as const) {
          const isTold = device === 'pellicle_ipsec' && told.some((each) => each === family)
          await using server = await Server.start(cluster.path('n2'), PORT)
          const got = fetchAll(cluster.path('p1'), target, PORT)
          if (!isTold) assert.equal(got, server.size)
          // whoever is told of a lower MTU keeps it for all that goes there
          const route = cluster.run('n2', `ip route get ${own}`)
          assert.equal(/mtu/.test(route), isTold, route)
        }
        cluster.run('n2', 'ip route flush cache')
        cluster.run('n2', 'ip -6 route flush cache')
      }
    })

    test('nodeEncryption comes and goes, and pods’ packets are never in clear', { skip: later }, async (t) => {
      const nodes = { ...config, encryption: { ...config.encryption, nodeEncryption: true } }
      await cluster.be({ levels: [0, 0], config })
      const marked = ['-s', '64', '-p', hex(MARKER)]
      const streams = [cluster.stream('p1', NODE2, ...marked), cluster.stream('p1', NODE2_6, ...marked)]
      for (const level of [1, 2, 3] as const) await cluster.be({ levels: [level, level], config })
      const seen = await cluster.watch('wire', 'br0', async () => {
        for (const each of [nodes, config, nodes, config]) {
          await cluster.be({ levels: [3, 3], config: each })
          assert.ok(reaches(cluster, 'p1', POD2))
        }
        // a capture ends when nobody says anything more
        for (const { sent, lost } of await Promise.all(streams.map((stop) => stop()))) {
          t.diagnostic(`${sent} sent, ${lost.length} lost`)
          assert.ok(sent > 100)
          assert.ok(lost.length < 10, `${lost.join(' ')} of ${sent} lost`)
        }
      })
      assert.ok(!seen.marked)
    })
  })
}

/** kube-proxy's part, as far as it matters: of node 3 what is asked of its own address, for an endpoint somewhere else. */
const nodePort = (endpoint: string) => `table ip kube-proxy {
  chain nat-prerouting { type nat hook prerouting priority dstnat
    ip daddr ${NODE3} icmp type echo-request meta mark set meta mark | 0x4000 dnat to ${endpoint}
  }
  chain nat-postrouting { type nat hook postrouting priority srcnat
    meta mark & 0x4000 == 0 return
    meta mark set meta mark ^ 0x4000
    masquerade fully-random
  }
}`
const SERVICE = '10.96.0.9'

describe('Services', { skip: skip || later }, () => {
  let cluster: SteeringCluster
  const config = ipsec('udp')
  const closed: Situation = { levels: [3, 3, 3], config }
  before(async () => {
    cluster = await SteeringCluster.make(3)
  })
  after(async () => {
    await cluster?.close()
  })

  test('pods leave as their node, in clear and encrypted', async () => {
    const noSnat = withoutLines(/masquerade|daddr @(nodes|asked). meta.* snat/)
    const masquerade = { 4: false, 6: false }
    const asks = (from: string, to: string) => new RegExp(`IP6? ${from} > ${to}: ICMP6?,? echo request`)
    for (const [target, own, pod] of [
      [NODE2, NODE1, '10.244.1.10'],
      [NODE2_6, 'fc00:18::3', 'fd00:10:244:1::a'],
    ] as const) {
      for (const [what, situation, source] of [
        ['in clear', { levels: [0, 0, 0], config }, own],
        ['whatever is asked for outside', { levels: [0, 0, 0], config: { ...config, masquerade } }, own],
        ['without it', { levels: [0, 0, 0], config, without: noSnat }, pod],
        ['encrypted', closed, own],
        ['encrypted, without it', { ...closed, without: noSnat }, pod],
      ] as const) {
        await cluster.be(situation)
        const isClear = what !== 'encrypted' && what !== 'encrypted, without it'
        const seen = await cluster.watch(isClear ? 'wire' : 'n2', isClear ? 'br0' : 'pellicle_ipsec', () =>
          cluster.reach('p1', target),
        )
        assert.match(seen.lines, asks(source, target), what)
        assert.doesNotMatch(seen.lines, asks(source === own ? pod : own, target), what)
      }
    }
  })

  test('a Service whose endpoint is another node, as the API server’s, is asked encrypted', async () => {
    cluster.nft(1, nodePort(NODE2).replace(`ip daddr ${NODE3}`, `iifname "lxc*" ip daddr ${SERVICE}`))
    for (const levels of [
      [0, 0, 0],
      [3, 3, 3],
    ] as const) {
      await cluster.be({ levels, config })
      const seen = await cluster.watch('wire', 'br0', () => assert.ok(reaches(cluster, 'p1', SERVICE)))
      assert.equal(seen.marked, levels[0] === 0)
    }
    cluster.nft(1, 'delete table ip kube-proxy')
  })

  test('a NodePort of another node that goes on to a third is asked encrypted all the way', async () => {
    for (const endpoint of [POD2, NODE2]) {
      cluster.nft(3, nodePort(endpoint))
      for (const [what, change, answered, leaves] of [
        ['everything', undefined, true, false],
        ['on from there', withoutLines(/^ {2}iifname \{.*meta mark set/), endpoint === POD2, false],
        ['back', withoutLines(/^ {2}ct direction reply .*meta mark set/), false, false],
        ['all of it', both(withoutLines(/^ {2}(iifname \{|ct direction reply) .*meta mark set/), noDrops), true, true],
      ] as const) {
        await cluster.be(change === undefined ? closed : { ...closed, without: change })
        const seen = await cluster.watch('wire', 'br0', () =>
          assert.equal(reaches(cluster, 'p1', NODE3, answered), answered, what),
        )
        assert.equal(seen.marked, leaves, `${what} ${endpoint}`)
      }
      await cluster.be(closed)
      assert.ok(reaches(cluster, 'n1', NODE3), 'and by a node itself')
      cluster.nft(3, 'delete table ip kube-proxy')
    }
  })
})

/** No answer is no answer only where none is expected: a busy machine is late. */
function reaches(cluster: SteeringCluster, from: string, to: string, expected = true): boolean {
  return (expected ? cluster.reach(from, to) : cluster.ping(from, to)) > 0
}

const hex = (text: string) => Buffer.from(text).toString('hex')

/** Levels below 2 have no such lines. */
function relaxed(change: Change): Change {
  return (host) => (host.tables.some(({ body }) => body.includes('in_clear drop')) ? change(host) : host)
}

const forged = (port: number) => `table ip pp_forged {
  chain out { type filter hook output priority -310
    udp sport ${PORT + 1} udp sport set ${port} notrack
  }
}`
