import { randomBytes } from 'node:crypto'
import type { Lab } from '#test/kit/lab.ts'

/** How ESP goes between nodes, what asks for it, and what a capture of the underlay sees of it. */
export interface WireShape {
  readonly name: string
  /** Of `cilium install`. */
  readonly flags: string
  /** A filter of tcpdump for everything encrypted, on the underlay. */
  readonly filter: string
}

export const WIRE_SHAPES: readonly WireShape[] = [
  { name: 'ESP in UDP', flags: '', filter: 'udp port 4500' },
  { name: 'ESP', flags: '--set encryption.ipsec.udpEncapsulation=false', filter: 'esp' },
  { name: 'ESP inside VXLAN', flags: '--version 1.14.5', filter: 'udp port 8472' },
  { name: 'VXLAN inside ESP', flags: '--version 1.18.0', filter: 'esp' },
]

/** The text of a new key for AES-GCM with 128 bits. */
export function keyText(id: number): string {
  return `${id}+ rfc4106(gcm(aes)) ${randomBytes(20).toString('hex')} 128`
}

export async function createKey(lab: Lab, id: number): Promise<void> {
  await lab.sh(
    `kubectl create -n kube-system secret generic cilium-ipsec-keys --from-literal=keys='${keyText(id)}' --dry-run=client -o yaml | kubectl apply -f -`,
  )
}

/** As the guide does it; returns when the API server has it. */
export async function patchKey(lab: Lab, text: string): Promise<void> {
  const patch = JSON.stringify({ stringData: { keys: text } })
  await lab.sh(`kubectl patch secret -n kube-system cilium-ipsec-keys -p '${patch}'`)
}

/** Errors that the datapath has counted, of all nodes, by name. */
export async function xfrmErrors(lab: Lab): Promise<Readonly<Record<string, number>>> {
  const pods = (await lab.sh('kubectl -n kube-system get pods -l k8s-app=cilium -o name')).trim().split('\n')
  const sum: Record<string, number> = {}
  for (const pod of pods) {
    const status = JSON.parse(
      await lab.sh(`kubectl -n kube-system exec ${pod} -c cilium-agent -- cilium-dbg encrypt status -o json`),
    ) as { ipsec?: { 'xfrm-errors'?: Record<string, number> } }
    for (const [name, count] of Object.entries(status.ipsec?.['xfrm-errors'] ?? {}))
      sum[name] = (sum[name] ?? 0) + count
  }
  return sum
}
