import { proposeCompletions } from '@stricli/core'
import { buildCli } from '../../app.ts'
import type { CliContext } from '../../context.ts'

type Shell = 'bash' | 'zsh' | 'fish'

/** `PROGRAM completion propose -- WORDS` prints what may stand at the last word, a line each. */
const SCRIPTS: Readonly<Record<Shell, (program: string) => string>> = {
  bash: (program) => `_${program}_complete() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(${program} completion propose -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _${program}_complete ${program}
`,
  zsh: (program) => `#compdef ${program}
_${program}_complete() {
  local -a found
  found=("\${(@f)$(${program} completion propose -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -a found
}
compdef _${program}_complete ${program}
`,
  fish: (program) =>
    `complete -c ${program} -f -a '(${program} completion propose -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'\n`,
}

export function scriptFor(shell: Shell): (this: CliContext) => void {
  return function (this: CliContext) {
    this.process.stdout.write(SCRIPTS[shell](this.program))
  }
}

export async function propose(this: CliContext, _flags: object, ...words: string[]): Promise<void> {
  const found = await proposeCompletions(buildCli(this.program, []), words.length === 0 ? [''] : words, this)
  for (const { completion } of found) this.process.stdout.write(`${completion}\n`)
}
