import { stringify } from 'yaml'
import { z } from 'zod'
import { ciliumNodeSpecSchema, ciliumNodeStatusSchema } from '#core/api/cilium-node.ts'
import { CHART_KEYS, REFUSED_KEYS } from '#core/api/config-refused.ts'
import { chartSchema } from './values-schema.ts'

/** What is made from the schemas in core/api: path below the root, and text. */
export function generatedFiles(): ReadonlyMap<string, string> {
  const crd = `# Made from core/api/cilium-node.ts by tools/update-crds.ts.\n${stringify(ciliumNodeCrd(), { lineWidth: 0 })}`
  return new Map([
    ['deploy/crds/ciliumnodes.yaml', crd],
    // Helm takes nothing from outside the chart's folder
    ['deploy/chart/files/crds/ciliumnodes.yaml', crd],
    ['deploy/chart/files/config-keys.yaml', configKeys()],
    ['deploy/chart/values.schema.json', `${JSON.stringify(chartSchema(), null, 2)}\n`],
  ])
}

/** What the chart refuses under `extraConfig` (templates/validate.yaml). */
function configKeys(): string {
  const keys = { written: CHART_KEYS, refused: REFUSED_KEYS }
  return `# Made from core/api/config-refused.ts by tools/update-crds.ts.\n${stringify(keys, { lineWidth: 0, aliasDuplicateObjects: false })}`
}

function ciliumNodeCrd(): object {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'ciliumnodes.cilium.io' },
    spec: {
      group: 'cilium.io',
      names: {
        categories: ['cilium'],
        kind: 'CiliumNode',
        listKind: 'CiliumNodeList',
        plural: 'ciliumnodes',
        shortNames: ['cn', 'ciliumn'],
        singular: 'ciliumnode',
      },
      scope: 'Cluster',
      versions: [
        {
          name: 'v2',
          served: true,
          storage: true,
          additionalPrinterColumns: [
            {
              name: 'CiliumInternalIP',
              type: 'string',
              description: "The node's own address inside its pod CIDR",
              jsonPath: '.spec.addresses[?(@.type=="CiliumInternalIP")].ip',
            },
            {
              name: 'InternalIP',
              type: 'string',
              description: 'Where other nodes reach it',
              jsonPath: '.spec.addresses[?(@.type=="InternalIP")].ip',
            },
            { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
          ],
          schema: {
            openAPIV3Schema: {
              type: 'object',
              description: 'What one node has and announces to the others: addresses, pod prefixes, key',
              required: ['metadata', 'spec'],
              properties: {
                apiVersion: { type: 'string' },
                kind: { type: 'string' },
                metadata: { type: 'object' },
                spec: structural(z.toJSONSchema(ciliumNodeSpecSchema, { target: 'openapi-3.0' })),
                status: structural(z.toJSONSchema(ciliumNodeStatusSchema, { target: 'openapi-3.0' })),
              },
            },
          },
          subresources: { status: {} },
        },
      ],
    },
  }
}

/**
 * JSON Schema to the structural schema that Kubernetes asks for: `additionalProperties` beside `properties` is
 * forbidden there; "unknown fields are kept" is said by an extension.
 */
function structural(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(structural)
  if (typeof schema !== 'object' || schema === null) return schema
  const out: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(schema)) {
    if (key === '$schema') continue
    if (key === 'additionalProperties') out['x-kubernetes-preserve-unknown-fields'] = true
    else if (key === 'properties') {
      out[key] = Object.fromEntries(Object.entries(value as object).map(([name, inner]) => [name, structural(inner)]))
    } else out[key] = structural(value)
  }
  return out
}
