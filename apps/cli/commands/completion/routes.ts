import { buildCommand, buildRouteMap } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { text } from '../../flags.ts'

const shell = (name: 'bash' | 'zsh' | 'fish', how: string) =>
  buildCommand<object, [], CliContext>({
    loader: async () => (await import('./completion.ts')).scriptFor(name),
    parameters: {},
    docs: { brief: `For ${name}: ${how}` },
  })

const propose = buildCommand<object, string[], CliContext>({
  loader: async () => (await import('./completion.ts')).propose,
  parameters: { positional: { kind: 'array', parameter: { parse: text, brief: 'Words so far', placeholder: 'word' } } },
  docs: { brief: 'What may follow; the scripts ask this' },
})

export const completionRoutes = buildRouteMap({
  routes: {
    bash: shell('bash', 'source <(pellicle completion bash)'),
    zsh: shell('zsh', 'source <(pellicle completion zsh)'),
    fish: shell('fish', 'pellicle completion fish | source'),
    propose,
  },
  docs: { brief: 'Completion for a shell', hideRoute: { propose: true } },
})
