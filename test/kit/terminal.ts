import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { stripVTControlCharacters } from 'node:util'

const PROMPT = /\$ guide: $/

/**
 * A bash on a real (pseudo-)terminal, made by script(1): for commands that behave otherwise without one, such as
 * `kubectl exec -ti`.
 */
export class Terminal implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams
  #text = ''
  #mark = 0
  #changed = Promise.withResolvers<void>()
  #ended = false

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child
    const took = (chunk: Buffer) => {
      this.#text += chunk.toString()
      this.#wake()
    }
    child.stdout.on('data', took)
    child.stderr.on('data', took)
    child.on('close', () => {
      this.#ended = true
      this.#wake()
    })
  }

  static async open(options: { cwd: string; env: NodeJS.ProcessEnv }): Promise<Terminal> {
    // a bash that is not interactive (script's own) drops PS1 from the environment
    const child = spawn('script', ['-qfc', "PS1='$ guide: ' exec bash --noprofile --norc -i", '/dev/null'], {
      cwd: options.cwd,
      env: { ...options.env, TERM: 'dumb', INPUTRC: '/dev/null' },
    })
    const terminal = new Terminal(child)
    await terminal.waitFor(PROMPT, 60)
    // a narrow terminal would wrap what is typed
    await terminal.run('stty cols 1000')
    return terminal
  }

  /** Types a line and waits for the next prompt. Gives what was printed in between, without the echo. */
  async run(line: string, options: { prompt?: RegExp; seconds?: number } = {}): Promise<string> {
    this.type(line)
    const output = await this.waitFor(options.prompt ?? PROMPT, options.seconds ?? 120)
    const echoEnd = output.indexOf('\n')
    return output.slice(echoEnd + 1, Math.max(echoEnd + 1, output.lastIndexOf('\n') + 1))
  }

  /** Types a line without waiting. */
  type(line: string): void {
    this.#mark = this.#text.length
    this.#child.stdin.write(`${line}\n`)
  }

  interrupt(): void {
    this.#child.stdin.write('\x03')
  }

  /** All that was printed since the last line was typed. */
  get output(): string {
    return clean(this.#text.slice(this.#mark))
  }

  /** Waits until what was printed since the last line matches; fails with the whole of it otherwise. */
  async waitFor(pattern: RegExp, seconds: number): Promise<string> {
    const deadline = Date.now() + seconds * 1000
    while (!pattern.test(this.output)) {
      const left = deadline - Date.now()
      if (left <= 0 || this.#ended) {
        throw new Error(
          `${this.#ended ? 'the terminal ended' : `${seconds} s passed`} without ${pattern}:\n${this.output}`,
        )
      }
      const timer = setTimeout(() => this.#wake(), left)
      await this.#changed.promise
      clearTimeout(timer)
    }
    return this.output
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return
    const exited = new Promise((resolve) => this.#child.once('exit', resolve))
    // the terminal goes with script, and what runs on it gets a hang-up
    this.#child.kill('SIGKILL')
    await exited
    this.#child.stdout.destroy()
    this.#child.stderr.destroy()
  }

  #wake(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}

function clean(text: string): string {
  return stripVTControlCharacters(text).replaceAll('\r\n', '\n').replaceAll('\r', '')
}
