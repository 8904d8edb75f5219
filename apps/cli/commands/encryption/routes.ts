import { buildCommand, buildRouteMap } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import { clusterFlags, duration, text } from '../../flags.ts'
import type { CreateKeyFlags } from './create-key.ts'
import type { KeyStatusFlags } from './key-status.ts'
import type { RotateKeyFlags } from './rotate-key.ts'
import type { EncryptionStatusFlags } from './status.ts'

const status = buildCommand<EncryptionStatusFlags, [], CliContext>({
  loader: async () => (await import('./status.ts')).encryptionStatus,
  parameters: {
    flags: {
      ...clusterFlags,
      agentPodSelector: { kind: 'parsed', parse: text, brief: 'Labels of the agents', default: 'k8s-app=cilium' },
      node: { kind: 'parsed', parse: text, brief: 'Only this node', placeholder: 'name', optional: true },
      perNodeDetails: { kind: 'boolean', brief: 'One answer for each node', default: false },
      waitDuration: {
        kind: 'parsed',
        parse: duration,
        brief: 'How long agents may take',
        placeholder: 'duration',
        default: '1m',
      },
      output: { kind: 'enum', values: ['summary', 'json'], brief: 'Form of the result', default: 'summary' },
    },
    aliases: { n: 'namespace', o: 'output' },
  },
  docs: { brief: 'Ask every agent how it encrypts' },
})

const waitDuration = {
  kind: 'parsed',
  parse: duration,
  brief: 'How long it may take',
  placeholder: 'duration',
  default: '1m',
} as const

const createKey = buildCommand<CreateKeyFlags, [], CliContext>({
  loader: async () => (await import('./create-key.ts')).createKey,
  parameters: {
    flags: {
      ...clusterFlags,
      authAlgo: {
        kind: 'parsed',
        parse: text,
        brief: 'rfc4106-gcm-aes, cbc-aes-sha256 or cbc-aes-sha512',
        placeholder: 'algorithm',
        default: 'rfc4106-gcm-aes',
      },
      waitDuration,
    },
    aliases: { n: 'namespace' },
  },
  docs: { brief: 'Make the Secret with the first IPsec key' },
})

const rotateKey = buildCommand<RotateKeyFlags, [], CliContext>({
  loader: async () => (await import('./rotate-key.ts')).rotateKey,
  parameters: {
    flags: {
      ...clusterFlags,
      authAlgo: {
        kind: 'parsed',
        parse: text,
        brief: 'rfc4106-gcm-aes, cbc-aes-sha256 or cbc-aes-sha512 [as before]',
        placeholder: 'algorithm',
        optional: true,
      },
      wait: { kind: 'boolean', brief: 'Wait until every node uses the new key alone', default: true },
      waitDuration,
      force: {
        kind: 'parsed',
        parse: text,
        brief: 'Do not wait for this node, also in a rotation that is under way; may be repeated',
        placeholder: 'node',
        optional: true,
        variadic: ',',
      },
      interactive: { kind: 'boolean', brief: 'Show progress, on a terminal', default: true },
    },
    aliases: { n: 'namespace' },
  },
  docs: {
    brief: 'Go over to a new IPsec key without losing a packet',
    fullDescription:
      'Writes the next key into the Secret, with the next id and the same algorithm. Then all nodes receive by it, then ' +
      'they send by it, then the old one goes. A node that is not heard of holds the old key until it is back; --force ' +
      'gives it up: it is unreachable until its agent runs again.',
  },
})

const keyStatus = buildCommand<KeyStatusFlags, [], CliContext>({
  loader: async () => (await import('./key-status.ts')).keyStatus,
  parameters: {
    flags: {
      ...clusterFlags,
      waitDuration,
      output: { kind: 'enum', values: ['summary', 'json'], brief: 'Form of the result', default: 'summary' },
    },
    aliases: { n: 'namespace', o: 'output' },
  },
  docs: { brief: 'Print the IPsec key' },
})

export const encryptionRoutes = buildRouteMap({
  routes: { status, createKey, rotateKey, keyStatus },
  aliases: { ks: 'keyStatus' },
  docs: { brief: 'Encryption of the whole cluster' },
})
