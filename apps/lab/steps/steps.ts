import type { Progress, StepVoice } from '../progress/progress.ts'

/** One named action of a longer work. */
export interface Step {
  readonly title: string
  readonly work: (voice: StepVoice) => Promise<void>
}

/** Runs steps one after the other; a stop (Ctrl-C) ends the wait at once, what was begun is for the caller to undo. */
export async function runSteps(steps: readonly Step[], progress: Progress, signal: AbortSignal): Promise<void> {
  for (const { title, work } of steps) {
    signal.throwIfAborted()
    await progress.step(title, async (voice) => await untilAborted(work(voice), signal))
  }
}

export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const stopped = Promise.withResolvers<never>()
  const stop = (): void => stopped.reject(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([work, stopped.promise])
  } finally {
    signal.removeEventListener('abort', stop)
    work.catch(() => undefined) // its own failure after the stop is not news
  }
}
