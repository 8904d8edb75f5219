/** What a long action says while it runs: kind's manner, to standard error; results go to standard output. */
export interface Progress {
  /** Runs `work` as one named step; steps may run side by side. */
  step<T>(title: string, work: (step: StepVoice) => Promise<T>): Promise<T>
  /** A line beside the steps. */
  note(line: string): void
}

export interface StepVoice {
  /** What the step does just now, e.g. `kubelet (3 of 10)`. */
  detail(text: string): void
}

export interface ProgressStream {
  write(text: string): unknown
}

const FRAMES = ['⠈⠁', '⠈⠑', '⠈⠱', '⠈⡱', '⢀⡱', '⢄⡱', '⢄⡱', '⢆⡱', '⢎⡱', '⢎⡰', '⢎⡠', '⢎⡀', '⢎⠁', '⠎⠁', '⠊⠁']
/** Without a terminal a step that takes longer says every so often that it still runs. */
const STILL_RUNNING_MS = 30_000

interface Running {
  readonly title: string
  readonly started: number
  detail: string
}

/** Plain lines: ` • title ...` at the start, ` ✓ title (1.2 s)` or ` ✗` at the end. On a terminal one line spins below them. */
export function openProgress(stream: ProgressStream, terminal: boolean, now: () => number): Progress {
  const running = new Set<Running>()
  let frame = 0
  let timer: NodeJS.Timeout | undefined
  const clear = terminal ? '\r\u001B[2K' : ''
  const seconds = (from: number): string => `${((now() - from) / 1000).toFixed(1)} s`

  const draw = (): void => {
    frame = (frame + 1) % FRAMES.length
    const parts = [...running].map(({ title, started, detail }) => {
      return `${title}${detail === '' ? '' : ` – ${detail}`} (${seconds(started)})`
    })
    stream.write(`${clear} ${FRAMES[frame] ?? ''} ${parts.join(' · ').slice(0, 150)}`)
  }
  const stillRunning = (): void => {
    for (const { title, started, detail } of running) {
      if (now() - started >= STILL_RUNNING_MS) {
        stream.write(`   ${title} ... ${detail}${detail === '' ? '' : ', '}${seconds(started)}\n`)
      }
    }
  }
  const line = (text: string): void => void stream.write(`${clear}${text}\n`)

  return {
    note: line,
    async step(title, work) {
      const mine: Running = { title, started: now(), detail: '' }
      running.add(mine)
      if (terminal) draw()
      else line(` • ${title} ...`)
      timer ??= terminal ? setInterval(draw, 80) : setInterval(stillRunning, STILL_RUNNING_MS)
      const end = (mark: string): void => {
        running.delete(mine)
        if (running.size === 0) {
          clearInterval(timer)
          timer = undefined
        }
        line(` ${mark} ${title} (${seconds(mine.started)})`)
      }
      try {
        const value = await work({ detail: (text) => (mine.detail = text) })
        end('✓')
        return value
      } catch (error) {
        end('✗')
        throw error
      }
    },
  }
}
