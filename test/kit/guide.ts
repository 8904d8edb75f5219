import { readFileSync } from 'node:fs'

/** A command of a guide, as it stands there (continuation lines included), and the prose line before it. */
export interface GuideCommand {
  readonly text: string
  readonly line: number
}

const BEGINS = /^(uname|cilium|kubectl|tcpdump|apt-get|echo|exit|read|PSK=|NEW_PSK=|patch=|[A-Z][A-Z0-9_]*="?\$\()/
/** Prose and shown output that begin like a command. */
const PROSE = /^(Cilium|cilium is|cilium-ipsec-keys )/

/** The commands of a guide whose code stands between prose without fences. */
export function readGuide(file: string): GuideCommand[] {
  const lines = readFileSync(file, 'utf8').split('\n')
  const commands: GuideCommand[] = []
  for (let i = 0; i < lines.length; i++) {
    const first = lines[i] ?? ''
    if (!BEGINS.test(first) || PROSE.test(first)) continue
    const line = i + 1
    let text = first
    while (text.endsWith('\\')) text += `\n${lines[++i] ?? ''}`
    commands.push({ text, line })
  }
  return commands
}

/** Walks through the commands in order; a scenario says what it expects next and gets the guide's own words. */
export class GuideReader {
  readonly #commands: readonly GuideCommand[]
  #next = 0

  constructor(commands: readonly GuideCommand[]) {
    this.#commands = commands
  }

  /** The next command; fails when it is not the one that the scenario is written for. */
  next(expected: RegExp): string {
    const command = this.#commands[this.#next++]
    if (command === undefined) throw new Error(`the guide ends before ${expected}`)
    if (!expected.test(command.text))
      throw new Error(`line ${command.line} of the guide is not ${expected}: ${command.text}`)
    return command.text
  }

  get done(): boolean {
    return this.#next === this.#commands.length
  }
}
