import type { CliContext } from '../context.ts'

/** One voice for progress, on stderr. On a terminal a passing state is one line that is written over. */
export class Progress {
  readonly #context: CliContext
  readonly #live: boolean
  #passing = ''

  constructor(context: CliContext, interactive = true) {
    this.#context = context
    this.#live = interactive && context.terminal.stderr
  }

  /** Something that is so now, and stays written. */
  say(line: string): void {
    this.clear()
    this.#context.process.stderr.write(`${line}\n`)
  }

  /** What is waited for; repeated texts are written once. Without a terminal each new text is a line. */
  pass(line: string): void {
    if (line === this.#passing) return
    if (this.#live) {
      const width = 160
      this.#context.process.stderr.write(`\r\u001b[2K${line.length > width ? `${line.slice(0, width - 1)}…` : line}`)
    } else {
      this.#context.process.stderr.write(`${line}\n`)
    }
    this.#passing = line
  }

  /** Takes a passing line away. */
  clear(): void {
    if (this.#live && this.#passing !== '') this.#context.process.stderr.write('\r\u001b[2K')
    this.#passing = ''
  }
}
