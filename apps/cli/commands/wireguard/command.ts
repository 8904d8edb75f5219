import { buildCommand } from '@stricli/core'
import type { CliContext } from '../../context.ts'
import type { WireguardFlags } from './wireguard.ts'

export const wireguardCommand = buildCommand<WireguardFlags, [string], CliContext>({
  loader: async () => (await import('./wireguard.ts')).wireguard,
  parameters: {
    flags: {
      foreground: { kind: 'boolean', brief: 'Stay in the foreground (else: return when it is ready)', default: false },
    },
    aliases: { f: 'foreground' },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'Name of the device to make', placeholder: 'INTERFACE', parse: String }],
    },
  },
  docs: {
    brief: 'A WireGuard device in user space, in the place of wireguard-go',
    fullDescription: [
      'Starts a WireGuard device in user space, to be configured by wg, wg-quick and ip. It ends when the device is deleted.',
      'bin/pellicle-wireguard does the same without the time this program takes to start:',
      '  WG_QUICK_USERSPACE_IMPLEMENTATION=pellicle-wireguard wg-quick up wg0',
      '',
      'Environment as of wireguard-go: LOG_LEVEL, WG_TUN_FD, WG_UAPI_FD, WG_PROCESS_FOREGROUND.',
    ].join('\n'),
  },
})
