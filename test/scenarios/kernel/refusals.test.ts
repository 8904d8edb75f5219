import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { build } from 'esbuild'
import { describeFault, Fault } from '#core/fault/fault.ts'
import { requireIp } from '#core/ip/address.ts'
import { newAddress } from '#core/netlink/address.ts'
import { newLink, setLink } from '#core/netlink/link.ts'
import { dumpRoutes } from '#core/netlink/route.ts'
import { requireLink } from '#io/kernel/link-table.ts'
import { NetlinkSocket } from '#io/kernel/netlink-socket.ts'
import { readSysctl, writeSysctl } from '#io/kernel/sysctl.ts'
import { enterFreshNamespace, ip } from './namespace.ts'

/** Source of a small program that uses all of io/kernel and prints what happened. */
const PROGRAM = `
import { HostKeeper } from '${resolve('io/kernel/host-keeper.ts')}'
import { describeFault } from '${resolve('core/fault/fault.ts')}'
const plan = { links: [{ kind: 'veth', name: 'pnb0', peer: 'pnb1', mtu: 1400 }], addresses: [], routes: [], rules: [],
  neighbours: [], fdb: [], tables: [{ family: 'inet', name: 'pellicle', body: 'chain a { }' }], sysctls: [] }
try {
  const keeper = new HostKeeper({ repaired: async (report) => {
    console.log('repaired', report.done.map((step) => step.do).join(','))
    await keeper.close()
    clearInterval(alive)
  } })
  const alive = setInterval(() => {}, 1000)
  const report = keeper.apply(plan)
  console.log(report.done.length, 'done', report.failed.map(({ fault }) => describeFault(fault)).join('; '))
  if (report.failed.length > 0) process.exit(3)
  keeper.kernel.tables.delete({ family: 'inet', name: 'pellicle' })
} catch (error) {
  console.log(describeFault(error))
  process.exit(2)
}
`

function bundle(): { readonly file: string; readonly remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'pn-bundle-'))
  writeFileSync(join(folder, 'in.ts'), PROGRAM)
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
  return { file: join(folder, 'out.mjs'), remove: () => rmSync(folder, { recursive: true }) }
}

test('all of it works from a bundle of one file, its worker too; without the capability it says what is missing', async (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const { file, remove } = bundle()
  t.after(remove)
  await build({
    entryPoints: [file.replace('out.mjs', 'in.ts')],
    outfile: file,
    bundle: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    external: ['koffi'],
  })
  assert.match(execFileSync(process.execPath, [file], { encoding: 'utf8' }), /^2 done \nrepaired set table\n$/)

  ip('link del pnb0')
  if (spawnSync('setpriv', ['--version']).error !== undefined) return t.skip('needs setpriv')
  const bare = spawnSync('setpriv', ['--bounding-set=-all', '--inh-caps=-all', process.execPath, file], {
    encoding: 'utf8',
  })
  assert.equal(bare.status, 2, bare.stdout + bare.stderr)
  assert.match(bare.stdout, /not permitted.* Run as root or with CAP_NET_ADMIN/)
})

test('refusals carry the errno, what was asked for, and the kernel’s own sentence', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const socket = new NetlinkSocket()
  t.after(() => socket.close())
  const refused = (run: () => unknown): string => {
    try {
      run()
    } catch (error) {
      assert.ok(error instanceof Fault)
      return `${error.code} | ${describeFault(error)}`
    }
    return 'not refused'
  }
  const pair = newLink({ name: 'pnv0', kind: 'veth', peer: { name: 'pnv1' } })
  socket.request('add a pair', pair)
  assert.equal(
    refused(() => socket.request('add a pair', pair)),
    'kernel.eexist | add a pair: file already exists',
  )
  const { index } = requireLink(socket, 'pnv0')
  assert.match(
    refused(() => socket.request('set the MTU', setLink(index, { mtu: 3 }))),
    /^kernel\.einval \| set the MTU: .*\(kernel: mtu less than device minimum\)/,
  )
  assert.match(
    refused(() => socket.request('add', newAddress({ index: 9999, ip: requireIp('10.0.0.1', 't'), length: 32 }))),
    /^kernel.enodev \| add: .*\(kernel: ipv4: Device not found/,
  )
  assert.equal(readSysctl('net/ipv4/conf/not-there/rp_filter'), undefined)
  assert.match(
    refused(() => writeSysctl('net/ipv4/conf/not-there/rp_filter', '0')),
    /^kernel.sysctl.enoent \| cannot set/,
  )
  assert.match(
    refused(() => writeSysctl('net/ipv4/ip_forward', 'x')),
    /^kernel.sysctl.einval/,
  )
  assert.throws(() => readSysctl('../../etc/passwd'), TypeError)
})

test('a dump of more than one datagram is whole, and a small receive buffer loses nothing', (t) => {
  if (enterFreshNamespace(t) === undefined) return
  const socket = new NetlinkSocket({ receiveBuffer: 1 })
  t.after(() => socket.close())
  const lines = Array.from({ length: 3000 }, (_, i) => `route add blackhole 10.${i >> 8}.${i & 255}.0/24 proto 112`)
  execFileSync('ip', ['-batch', '-'], { input: lines.join('\n') })
  ip('route add blackhole 10.200.0.0/24 proto 99')
  // the kernel filters by protocol
  assert.equal(socket.dump('list routes', dumpRoutes(4, 112)).length, 3000)
})
