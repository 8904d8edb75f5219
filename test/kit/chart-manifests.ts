import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { IPSEC_SECRET } from '#core/api/ipsec-secrets.ts'
import type { KubeObject, Resource } from '#core/api/object.ts'
import type { KubeClient } from '#io/kube/client.ts'

/** The API group of rights. */
export const RBAC = (kind: string, namespaced: boolean): Resource<KubeObject> => ({
  group: 'rbac.authorization.k8s.io',
  version: 'v1',
  kind,
  plural: `${kind.toLowerCase()}s`,
  namespaced,
})
const ADMISSION = (kind: string, plural: string): Resource<KubeObject> => ({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind,
  plural,
  namespaced: false,
})
const RESOURCES = [
  RBAC('Role', true),
  RBAC('RoleBinding', true),
  RBAC('ClusterRole', false),
  RBAC('ClusterRoleBinding', false),
  ADMISSION('ValidatingAdmissionPolicy', 'validatingadmissionpolicies'),
  ADMISSION('ValidatingAdmissionPolicyBinding', 'validatingadmissionpolicybindings'),
]

/** Rights and admission policies of the chart, in `deploy/chart/templates`: their few template expressions, without Helm. Every `if` holds. */
export async function applyManifests(client: KubeClient, namespace: string, path: string): Promise<void> {
  const manifest = readFileSync(join(import.meta.dirname, '../../deploy/chart/templates', path), 'utf8')
    .replaceAll('{{ .Release.Namespace }}', namespace)
    .replaceAll('{{ include "pellicle.ipsecSecret" . }}', IPSEC_SECRET)
    .replaceAll(/^\s*(labels:\s*\n\s*)?\{\{-? include "pellicle.labels".*\}\}\n/gm, '')
    .replaceAll(/\{\{-?[\s\S]*?-?\}\}/g, '')
  for (const document of parseAllDocuments(manifest)) {
    const object = document.toJS() as KubeObject | null
    const resource = RESOURCES.find(({ kind }) => kind === object?.kind)
    if (object === null || resource === undefined) continue
    await client.apply(resource, object, { fieldManager: 'test' })
  }
}
