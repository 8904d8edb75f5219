import type { Progress, StepVoice } from '../progress/progress.ts'

/** One named action of a longer work. Waits inside must end when the signal aborts. */
export interface Step {
  readonly title: string
  readonly work: (voice: StepVoice) => Promise<void>
}

/**
 * Runs steps one after the other. A stop (Ctrl-C) takes effect between steps and in their waits, never in the middle of making
 * something: whoever undoes must not race with what is still being made.
 */
export async function runSteps(steps: readonly Step[], progress: Progress, signal: AbortSignal): Promise<void> {
  for (const { title, work } of steps) {
    signal.throwIfAborted()
    await progress.step(title, work)
  }
  signal.throwIfAborted()
}
