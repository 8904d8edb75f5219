import { stringify } from 'yaml'
import type { Issued } from './certificate.ts'

/** A kubeconfig that carries everything itself. */
export function kubeconfig(cluster: string, user: string, server: string, authority: string, issued: Issued): string {
  const base64 = (pem: string): string => Buffer.from(pem).toString('base64')
  const context = user === 'admin' ? cluster : `${user}@${cluster}`
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: cluster, cluster: { server, 'certificate-authority-data': base64(authority) } }],
    users: [
      {
        name: user,
        user: { 'client-certificate-data': base64(issued.certificate), 'client-key-data': base64(issued.key) },
      },
    ],
    contexts: [{ name: context, context: { cluster, user } }],
    'current-context': context,
  })
}
