/** The tool inside the agent's pod, installed as `cilium`, `cilium-dbg` and `pellicle-dbg`. Wiring only. */
import { basename } from 'node:path'
import type { StricliProcess } from '@stricli/core'
import { AGENT_SOCKET, SocketAgentClient } from './agent-client.ts'
import { runDbg } from './app.ts'

const called = basename(process.env['PELLICLE_PROGRAM'] ?? process.argv[1] ?? '').replace(/\.[cm]?[jt]s$/, '')

void runDbg(process.argv.slice(2), {
  process: process as StricliProcess,
  program: called === '' || called === 'main' || called === 'dbg' ? 'cilium-dbg' : called,
  agent: new SocketAgentClient(process.env['CILIUM_SOCK'] ?? AGENT_SOCKET),
})
