import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missingForTunnels } from '#test/kit/tunnel-lab.ts'
import { wireguardSources } from './wireguard-go.ts'

/**
 * WireGuard's own test, `tests/netns.sh` of its Go module, against `pellicle-wireguard`: pings, streams, roaming, crypto-key
 * routing, NAT with keepalives, sticky source addresses, very long configurations. One line is changed: its `sleep` reads
 * from a terminal that a test does not have.
 */
const exec = promisify(execFile)
const program = fileURLToPath(new URL('../../bin/pellicle-wireguard', import.meta.url))
const TOOLS = ['ncat', 'iptables', 'iperf3', 'ping', 'ping6', 'ss', 'bash']
const LAST_LINE = 'Objects that were created were also destroyed.'

const sources = await wireguardSources()
const skip =
  missingForTunnels(...TOOLS) ?? ('missing' in sources ? sources.missing : undefined) ?? (await noNat()) ?? false

test("WireGuard's tests/netns.sh passes to its last line", { skip, timeout: 900_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'pellicle-netns-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const original = await readFile(join('folder' in sources ? sources.folder : '', 'tests/netns.sh'), 'utf8')
  const script = original.replace(/^sleep\(\) .*$/m, 'sleep() { command sleep "$1"; }')
  assert.notEqual(script, original, 'the line with sleep is where it was')
  const path = join(folder, 'netns.sh')
  await writeFile(path, script)
  await chmod(path, 0o755)
  const { output, code } = await run(path, program)
  const tail = output.split('\n').slice(-40).join('\n')
  assert.ok(output.includes(LAST_LINE), `the script stopped:\n${tail}`)
  assert.equal(code, 0, tail)
})

function run(path: string, ...args: string[]): Promise<{ output: string; code: number | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    child.on('error', reject)
    child.on('close', (code) => resolve({ output, code }))
  })
}

/** The script needs iptables with SNAT, connection tracking and the kernel's log; why not, or undefined. */
async function noNat(): Promise<string | undefined> {
  try {
    accessSync('/dev/kmsg', constants.R_OK)
  } catch {
    return 'needs /dev/kmsg'
  }
  const rule = 'iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j SNAT --to 192.0.2.1'
  try {
    await exec('unshare', ['-n', 'sh', '-c', `${rule} && test -e /proc/sys/net/netfilter/nf_conntrack_udp_timeout`])
    return existsSync('/proc/sys/net/core/message_cost') ? undefined : 'needs /proc/sys/net/core/message_cost'
  } catch {
    return 'needs iptables with SNAT and connection tracking'
  }
}
