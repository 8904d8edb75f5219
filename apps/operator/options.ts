import { parseArgs } from 'node:util'
import { NAMESPACE } from '#core/api/names.ts'
import { nearest } from '#core/api/nearest.ts'
import { Fault } from '#core/fault/fault.ts'

export interface OperatorOptions {
  readonly configDir: string
  readonly kubeconfig: string | undefined
  readonly namespace: string
  readonly healthAddress: string
  readonly help: boolean
  readonly version: boolean
}

const FLAGS = {
  'config-dir': { type: 'string' },
  kubeconfig: { type: 'string' },
  namespace: { type: 'string' },
  'health-address': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const

export const USAGE = `cilium-operator: watches the cluster's nodes, tells what is wrong, deletes what is left over

  --config-dir DIR           the mounted ConfigMap cilium-config (/tmp/cilium/config-map)
  --kubeconfig FILE          instead of the pod's own service account
  --namespace NAME           of the Lease for leader election ($CILIUM_K8S_NAMESPACE, kube-system)
  --health-address HOST:PORT /healthz and /metrics (127.0.0.1:9234)
  --version, --help
`

/** @throws Fault `operator.flags` */
export function parseOptions(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): OperatorOptions {
  const unknown = args
    .filter((arg) => arg.startsWith('--'))
    .map((arg) => arg.slice(2).split('=', 1)[0] as string)
    .find((name) => !Object.hasOwn(FLAGS, name))
  if (unknown !== undefined) {
    const close = nearest(unknown, Object.keys(FLAGS))
    throw new Fault('operator.flags', `there is no flag --${unknown}`, {
      field: `--${unknown}`,
      remedy: close === undefined ? 'See --help' : `Did you mean --${close}?`,
    })
  }
  let values: ReturnType<typeof parse>
  try {
    values = parse(args)
  } catch (error) {
    throw new Fault('operator.flags', error instanceof Error ? error.message : String(error), { remedy: 'See --help' })
  }
  return {
    configDir: values['config-dir'] ?? '/tmp/cilium/config-map',
    kubeconfig: values.kubeconfig,
    namespace: values.namespace ?? env['CILIUM_K8S_NAMESPACE'] ?? NAMESPACE,
    healthAddress: values['health-address'] ?? '127.0.0.1:9234',
    help: values.help ?? false,
    version: values.version ?? false,
  }
}

function parse(args: readonly string[]) {
  return parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: false }).values
}
