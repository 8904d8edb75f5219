import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { wireguardCrypto } from '#io/crypto/wireguard-crypto.ts'
import { TunnelLab } from '#test/kit/tunnel-lab.ts'
import type { Missing } from './contestant.ts'
import { CROWD_NETWORK } from './crowd/crowd.ts'
import type { Run } from './crowd/main.ts'
import { cpuOf } from './processes.ts'
import { OUR_PROGRAM, PEER_PROGRAMS, type WireguardProgram } from './programs.ts'
import { type Figure, figure, show } from './statistics.ts'
import { table } from './table.ts'

/*
 * What a responder is worth: many initiators, each with its own key and address, against one device. Once few at a time
 * (what one handshake costs, and how fast they follow each other), once all at the same moment, as after a power cut.
 */

const exec = promisify(execFile)
const CROWD = join(import.meta.dirname, 'crowd/main.ts')
const PORT = 51871
/** Below what makes wireguard-go ask for cookies (128 in its queue). */
const WINDOW = 32

const HANDSHAKE_MEASURES = {
  perCore: { title: 'per core and s', more: true },
  perSecond: { title: `per s, ${WINDOW} at a time`, more: true },
  up: { title: 'up in 3 s, %', more: true },
  last: { title: 'last up, s', more: false },
} as const

type HandshakeMeasure = keyof typeof HANDSHAKE_MEASURES
const NAMES = Object.keys(HANDSHAKE_MEASURES) as HandshakeMeasure[]

interface HandshakeRow extends Partial<Record<HandshakeMeasure, Figure>> {
  readonly name: string
  readonly ours: boolean
}

export interface Handshakes {
  readonly initiators: number
  readonly rows: readonly HandshakeRow[]
  readonly notes: readonly string[]
}

type Sample = Record<HandshakeMeasure, number>

interface Responder {
  readonly program: WireguardProgram
  measure(): Promise<Sample>
  close(): Promise<void>
}

/** Interleaved: each responder once per round. */
export async function compareHandshakes(options: {
  readonly rounds: number
  readonly initiators: number
  /** Seconds after which a responder that does not answer all is not waited for any more. */
  readonly wait: number
  readonly quick: boolean
  readonly only: readonly string[] | undefined
  readonly say: (text: string) => void
}): Promise<Handshakes> {
  const { rounds, initiators, wait, quick, only, say } = options
  const all = [...PEER_PROGRAMS, OUR_PROGRAM].filter(({ name }) => only?.includes(name) ?? true)
  const chosen = all.filter((program) => !quick || program.quick)
  const notes: string[] = []
  const samples = new Map<WireguardProgram, Sample[]>(chosen.map((program) => [program, []]))
  const opened: Responder[] = []
  try {
    for (const program of chosen) {
      const found = await open(program, initiators, wait)
      if ('missing' in found) notes.push(`handshakes of ${program.name} are missing here: ${found.missing}`)
      else opened.push(found)
    }
    for (let round = 1; round <= rounds; round++) {
      for (const responder of opened) {
        const { name, ours } = responder.program
        let sample: Sample
        try {
          sample = await responder.measure()
        } catch (error) {
          if (ours) throw error
          const message = error instanceof Error ? error.message.split('\n')[0] : String(error)
          notes.push(`handshakes of ${name}, round ${round}: ${message}`)
          continue
        }
        samples.get(responder.program)?.push(sample)
        const line = NAMES.map((each) => `${HANDSHAKE_MEASURES[each].title} ${sample[each].toFixed(1)}`).join(', ')
        say(`handshakes, round ${round} of ${rounds}, ${name}: ${line}`)
      }
    }
  } finally {
    for (const responder of opened) await responder.close()
  }
  const rows = opened.map(({ program }): HandshakeRow => {
    const { name, ours } = program
    return { name, ours, ...summary(samples.get(program) ?? []) }
  })
  return { initiators, rows, notes }
}

function summary(samples: readonly Sample[]): Partial<Record<HandshakeMeasure, Figure>> {
  const pairs = NAMES.map((name) => {
    const values = samples.map((sample) => sample[name])
    // a round without a figure (not all came up) is no round to be left out of a median
    return [name, values.every(Number.isFinite) ? figure(values) : undefined] as const
  })
  return Object.fromEntries(pairs.filter(([, found]) => found !== undefined))
}

async function open(program: WireguardProgram, initiators: number, wait: number): Promise<Responder | Missing> {
  const start = await program.find()
  if (typeof start !== 'function') return start
  const lab = await TunnelLab.open(`bh${program.letter}`)
  try {
    const running = await start(lab, lab.b)
    await exec('ip', ['-n', lab.a.namespace, 'route', 'add', 'local', CROWD_NETWORK, 'dev', 'lo'])
    await exec('ip', ['-n', lab.b.namespace, 'route', 'add', CROWD_NETWORK, 'via', lab.a.outer[4]])
    const keys = Array.from({ length: initiators }, () => new Uint8Array(randomBytes(32)))
    const file = join(lab.folder, 'crowd.conf')
    const peers = keys.map((key, i) => {
      const publicKey = Buffer.from(wireguardCrypto.importKey(key).publicKey).toString('base64')
      return `[Peer]\nPublicKey = ${publicKey}\nAllowedIPs = 10.66.${i >> 8}.${i & 255}/32\n`
    })
    await writeFile(file, peers.join('\n'))
    await lab.wg('addconf', lab.b.device, file)
    const crowd = lab.start(lab.a, process.execPath, [CROWD, lab.b.outer[4], `${PORT}`])
    if (crowd.stdout === null) throw new Error('the initiators have no output')
    const said = createInterface(crowd.stdout)[Symbol.asyncIterator]()
    const ask = async (line: string): Promise<string> => {
      crowd.stdin?.write(`${line}\n`)
      const { value, done } = await said.next()
      if (done === true) throw new Error(`the initiators ended: ${lab.log(lab.a)}`)
      return value
    }
    await ask(
      JSON.stringify({ responder: lab.b.publicKey, keys: keys.map((key) => Buffer.from(key).toString('base64')) }),
    )
    const run = async (window: number): Promise<Run & { readonly cpu: number }> => {
      await ask('prepare')
      const pids = Object.values(await running.processes())
      const before = await cpuOf(pids)
      const found = JSON.parse(await ask(`run ${window} ${wait}`)) as Run
      return { ...found, cpu: (await cpuOf(pids)) - before }
    }
    return {
      program,
      measure: async () => {
        const few = await run(WINDOW)
        const all = await run(0)
        return {
          perCore: few.answered / few.cpu,
          perSecond: few.answered / few.seconds,
          up: (100 * all.after.filter((seconds) => seconds <= 3).length) / initiators,
          last: all.answered === initiators ? all.seconds : Number.NaN,
        }
      },
      close: async () => await lab.close(),
    }
  } catch (error) {
    await lab.close()
    if (program.ours) throw error
    return { missing: `does not come up: ${error instanceof Error ? error.message : String(error)}` }
  }
}

export function printHandshakes({ initiators, rows }: Handshakes): string {
  if (rows.length === 0) return ''
  const lines = [
    ['median ±%', ...NAMES.map((name) => HANDSHAKE_MEASURES[name].title)],
    ...rows.map((row) => [row.name, ...NAMES.map((name) => (row[name] === undefined ? 'not all' : show(row[name])))]),
  ]
  return `Handshakes, responder, ${initiators.toLocaleString('en')} initiators\n\n${table(lines)}`
}
