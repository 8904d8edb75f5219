import { AGENT_DAEMONSET, KEEPER_DAEMONSET, OPERATOR_DEPLOYMENT } from '#core/api/names.ts'
import { formatColumns } from '#core/status/columns.ts'
import type { Paint } from '../output/colour.ts'
import { COMPONENTS, type StatusDocument } from './document.ts'

/** A ciliate: its nucleus, its pellicle, its cilia. All lines are equally wide. */
const LOGO = [
  '   ╷ ╷ ╷ ╷    ',
  '  ╭┴─┴─┴─┴╮   ',
  ' ─┤ ╭───╮ ├─  ',
  ' ─┤ ╰───╯ ├─  ',
  '  ╰┬─┬─┬─┬╯   ',
  '   ╵ ╵ ╵ ╵    ',
] as const

/** The layout of Cilium's CLI, line by line; what it has and we do not is `disabled`. */
export function formatSummary(document: StatusDocument, paint: Paint): string {
  const labels: [string, string][] = [
    ['Cilium:', verdict(document, [AGENT_DAEMONSET, KEEPER_DAEMONSET], paint)],
    ['Operator:', verdict(document, [OPERATOR_DEPLOYMENT], paint)],
    ['Envoy DaemonSet:', paint('disabled', 'cyan')],
    ['Hubble Relay:', paint('disabled', 'cyan')],
    ['ClusterMesh:', paint('disabled', 'cyan')],
  ]
  const [crown, ...body] = LOGO
  const head = [
    [paint(crown.trimEnd(), 'green')],
    ...body.map((line, i) => [paint(line, 'green'), ...(labels[i] ?? [])]),
  ]
  return `${head.map((cells) => headLine(cells)).join('')}\n${formatColumns(rows(document, paint), 4)}`
}

function headLine([logo = '', label, value]: readonly string[]): string {
  return label === undefined ? `${logo}\n` : `${logo}${label.padEnd(20)}${value}\n`
}

function rows(document: StatusDocument, paint: Paint): string[][] {
  const lines: string[][] = []
  for (const { name, type } of COMPONENTS) {
    const state = document.pod_state[name]
    if (state === undefined) continue
    const colour = state.Ready < state.Desired ? 'yellow' : 'green'
    const parts = [
      `Desired: ${state.Desired}`,
      `Ready: ${paint(`${state.Ready}/${state.Desired}`, colour)}`,
      `Available: ${paint(`${state.Available}/${state.Desired}`, colour)}`,
    ]
    if (state.Unavailable > 0) parts.push(`Unavailable: ${paint(`${state.Unavailable}/${state.Desired}`, 'red')}`)
    lines.push([type, name, parts.join(', ')])
  }
  lines.push(
    ...titled(
      'Containers:',
      Object.entries(document.phase_count).map(([name, phases]) => [
        name,
        Object.entries(phases)
          .map(([phase, count]) => `${phase}: ${paint(String(count), phase === 'Running' ? 'green' : 'yellow')}`)
          .join(', '),
      ]),
    ),
  )
  const { all, by_cilium: managed } = document.pods_count
  lines.push(['Cluster Pods:', `${paint(`${managed}/${all}`, managed === all ? 'green' : 'yellow')} managed by Cilium`])
  lines.push(['Encryption:', document.pellicle_encryption.phase], ['NetworkPolicy:', 'not enforced'])
  if (document.helm_chart_version !== undefined) lines.push(['Helm chart version:', document.helm_chart_version])
  lines.push(
    ...titled(
      'Image versions',
      Object.entries(document.image_count).flatMap(([name, images]) =>
        Object.entries(images).map(([image, count]) => [name, `${image}: ${count}`]),
      ),
    ),
  )
  lines.push(
    ...titled(
      'Errors:',
      findings(document, 'Errors', (text) => paint(text, 'red')),
    ),
    ...titled(
      'Warnings:',
      findings(document, 'Warnings', (text) => paint(text, 'yellow')),
    ),
  )
  return lines
}

function findings(document: StatusDocument, kind: 'Errors' | 'Warnings', mark: (text: string) => string): string[][] {
  const found = Object.entries(document.errors).flatMap(([component, pods]) =>
    Object.entries(pods).flatMap(([pod, finding]) => finding[kind].map((text) => [component, pod, mark(text)])),
  )
  if (kind === 'Errors') found.push(...document.collection_errors.map((text) => ['cluster', '', mark(text)]))
  return found
}

/** The title stands before the first row only. */
function titled(title: string, lines: readonly string[][]): string[][] {
  return lines.map((cells, index) => [index === 0 ? title : '', ...cells])
}

/** `OK`, or how many errors and warnings. */
function verdict(document: StatusDocument, components: readonly string[], paint: Paint): string {
  const all = components.flatMap((name) => Object.values(document.errors[name] ?? {}))
  const errors = all.reduce((sum, finding) => sum + finding.Errors.length, 0)
  const warnings = all.reduce((sum, finding) => sum + finding.Warnings.length, 0)
  const parts: string[] = []
  if (errors > 0) parts.push(paint(`${errors} errors`, 'red'))
  if (warnings > 0) parts.push(paint(`${warnings} warnings`, 'yellow'))
  return parts.length === 0 ? paint('OK', 'green') : parts.join(', ')
}
