import { Fault } from '#core/fault/fault.ts'

interface Kind {
  readonly code: string
  readonly pattern: RegExp
  readonly remedy?: string
}

/** What Helm 3 says, and what helps. The first that fits is taken. */
const KINDS: readonly Kind[] = [
  {
    code: 'helm.pending',
    pattern: /another operation \(install\/upgrade\/rollback\) is in progress/,
    remedy: 'Wait for it to end; if it was killed, run helm rollback, or uninstall and install again',
  },
  {
    code: 'helm.ownership',
    pattern: /invalid ownership metadata|cannot be imported into the current release/,
    remedy: 'Remove what is left of the other installation first',
  },
  { code: 'helm.values', pattern: /values don't meet the specifications of the schema/ },
  { code: 'helm.values', pattern: /execution error at/ },
  {
    code: 'helm.kubernetes',
    pattern: /chart requires kubeVersion/,
    remedy: 'Kubernetes 1.30 or newer is needed',
  },
  {
    code: 'helm.unreachable',
    pattern: /Kubernetes cluster unreachable|connection refused|i\/o timeout/,
    remedy: 'Check the kubeconfig and that the API server runs',
  },
  {
    code: 'helm.forbidden',
    pattern: /is forbidden/,
    remedy: 'Install with an identity that may create ClusterRoles, DaemonSets and admission policies',
  },
]

export function helmFault(action: string, stderr: string): Fault {
  const sentence = sentenceOf(stderr)
  const kind = KINDS.find(({ pattern }) => pattern.test(stderr))
  return new Fault(kind?.code ?? 'helm.failed', `helm ${action}: ${sentence}`, {
    field: 'helm',
    ...(kind?.remedy === undefined ? {} : { remedy: kind.remedy }),
  })
}

/** From `Error:` on, without where in the chart it happened: a chart's `fail` is a sentence by itself. */
function sentenceOf(stderr: string): string {
  const at = stderr.lastIndexOf('Error: ')
  const said = (at < 0 ? stderr : stderr.slice(at + 'Error: '.length)).trim()
  const failed = /execution error at \([^)]*\): ([\s\S]*)$/.exec(said)
  const sentence = (failed?.[1] ?? said).replaceAll(/\n\nUse --debug flag[^\n]*/g, '').trim()
  return sentence === '' ? 'it failed without a word' : sentence.replaceAll(/\s*\n\s*/g, '; ')
}
