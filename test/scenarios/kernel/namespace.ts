import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { close, openRead, setNetworkNamespace } from '#io/sys/libc.ts'

/**
 * A fresh network namespace for one test, with `lo` up. The test's own thread is moved into it (so are children that it
 * starts), and back at its end, when the namespace is deleted with all that is in it.
 *
 * Tests of one file that use it run one after the other: node:test does so unless asked otherwise.
 * Undefined, and the test skipped, where namespaces cannot be made.
 */
export function enterFreshNamespace(t: TestContext): string | undefined {
  const lacking = lacks('ip', 'nft')
  if (lacking !== undefined) {
    t.skip(lacking)
    return undefined
  }
  const name = makeNamespace(t)
  const own = openRead('/proc/thread-self/ns/net')
  const target = openRead(`/var/run/netns/${name}`)
  setNetworkNamespace(target)
  close(target)
  t.after(() => {
    setNetworkNamespace(own)
    close(own)
  })
  ip('link set lo up')
  return name
}

/** Another one, not entered; deleted at the test's end. */
export function makeNamespace(t: TestContext): string {
  const name = `pn-${randomBytes(4).toString('hex')}`
  ip(`netns add ${name}`)
  t.after(() => {
    execFileSync('ip', ['netns', 'del', name])
  })
  return name
}

function lacks(...programs: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root'
  if (!existsSync('/var/run/netns') && spawnSync('ip', ['netns', 'list']).status !== 0) return 'needs iproute2'
  const missing = programs.find((program) => spawnSync(program, ['-V']).error !== undefined)
  return missing === undefined ? undefined : `needs the program ${missing}`
}

/** Runs `ip ARGS` in the namespace that the test is in. */
export function ip(args: string): string {
  return execFileSync('ip', args.split(' '), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

export function bridge(args: string): string {
  return execFileSync('bridge', args.split(' '), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

export function nft(args: string): string {
  return execFileSync('nft', [args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/** `ip -j -d ARGS`, decoded: facts as another program sees them. */
// oxlint-disable-next-line typescript/no-explicit-any
export function ipJson(args: string): any[] {
  const text = ip(`-j -d ${args}`)
  return text.trim() === '' ? [] : (JSON.parse(text) as unknown[])
}
