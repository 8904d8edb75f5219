import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Lab } from '#test/kit/lab.ts'
import { countFull, type FullQueues } from '#test/kit/overruns.ts'
import { type Pod, Probe, startEcho } from '#test/kit/probe/pods.ts'

/** What was lost between two pods while something happened, in packets. */
export interface Loss {
  readonly sent: number
  readonly lost: number
  /** The longest run of lost ones. */
  readonly longestRun: number
  readonly full: FullQueues
  /** Lost beyond what full queues of this machine's kernel dropped. */
  readonly ours: number
}

export interface LossOptions {
  /** What the packets say. */
  readonly text?: string
  /** From the second pod to the first as well. */
  readonly both?: boolean
}

const PORT = 7777

/** 1,000 packets a second and their echoes, until the returned function is called. */
export async function watchLoss(
  lab: Lab,
  pods: readonly [Pod, Pod],
  { text, both = false }: LossOptions = {},
): Promise<() => Promise<Loss>> {
  const [a, b] = pods
  const ways = both
    ? ([
        [a, b],
        [b, a],
      ] as const)
    : ([[a, b]] as const)
  const echoes = await Promise.all(ways.map(([, to]) => startEcho(lab, to, PORT)))
  const full = await countFull(lab, pods)
  const probes = ways.map(([from, to]) => new Probe(lab, from, to, PORT, text === undefined ? {} : { text }))
  await Promise.all(probes.map(({ started }) => started))
  return async () => {
    const stopped = Promise.all(probes.map((probe) => probe.stop()))
    // all else ends also when a probe has nothing to say
    await stopped.catch(() => undefined)
    await Promise.all(echoes.map((echo) => echo[Symbol.asyncDispose]()))
    const queues = await full()
    const results = await stopped
    const [sent, lost] = (['sent', 'lost'] as const).map((key) => results.reduce((sum, one) => sum + one[key], 0)) as [
      number,
      number,
    ]
    return lossOf({ sent, lost, longestRun: Math.max(...results.map(({ longestRun }) => longestRun)) }, queues)
  }
}

/** What a probe counted, beside what full queues dropped meanwhile. */
export function lossOf({ sent, lost, longestRun }: Pick<Loss, 'sent' | 'lost' | 'longestRun'>, full: FullQueues): Loss {
  return { sent, lost, longestRun, full, ours: Math.max(0, lost - full.dropped) }
}

/** The same while `event` happens, from a second before it to one after it. */
export async function lossWhile<T>(
  lab: Lab,
  pods: readonly [Pod, Pod],
  event: () => Promise<T>,
  options?: LossOptions,
): Promise<Loss & { readonly result: T }> {
  const end = await watchLoss(lab, pods, options)
  await second()
  let result: T
  try {
    result = await event()
    await second()
  } catch (error) {
    await end().catch(() => undefined)
    throw error
  }
  return { ...(await end()), result }
}

export function describeLoss({ sent, lost, longestRun, full }: Loss): string {
  const where = full.dropped === 0 ? '' : `: ${full.where}`
  return `${lost} of ${sent} packets lost (${longestRun} in a row; full queues dropped ${full.dropped}${where})`
}

/**
 * Says what was lost and fails when it is more than `most`. Where full queues dropped so much that an outage of ours could
 * hide among it, nothing is said of us: the test counts as skipped.
 */
export function judgeLoss(t: TestContext, what: string, loss: Loss, most = 0): void {
  t.diagnostic(`${what}: ${describeLoss(loss)}`)
  assert.ok(loss.sent > 0 && loss.ours <= most, `${loss.lost} lost`)
  if (loss.full.dropped > loss.sent / MOST_IN_QUEUES)
    t.skip(`needs processors: full queues dropped ${loss.full.dropped}`)
}

/** One in so many. */
const MOST_IN_QUEUES = 50

async function second(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 1000))
}
