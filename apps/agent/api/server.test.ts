import assert from 'node:assert/strict'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Fault } from '#core/fault/fault.ts'
import { SILENT } from '#io/telemetry/log.ts'
import { ApiServer, TextAnswer } from './server.ts'

const server = () =>
  new ApiServer(
    {
      'GET /v1/healthz': async () => ({ cilium: { state: 'Ok' } }),
      'GET /metrics': async () => new TextAnswer('x 1\n'),
      'GET /broken': async () => {
        throw new Fault('x', 'the disk is full', { remedy: 'free some space' })
      },
    },
    SILENT,
  )

function ask(
  options: { socketPath: string } | { port: number },
  path: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    get({ ...options, path }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    }).on('error', reject)
  })
}

test('answers over a Unix socket that only its owner may use', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pa-api-'))
  const api = server()
  const socketPath = join(folder, 'run/cilium.sock')
  try {
    await api.listenUnix(socketPath)
    assert.equal((await stat(socketPath)).mode & 0o777, 0o600)
    assert.deepEqual(await ask({ socketPath }, '/v1/healthz?brief=true'), {
      status: 200,
      text: '{"cilium":{"state":"Ok"}}\n',
    })
    assert.deepEqual(await ask({ socketPath }, '/metrics'), { status: 200, text: 'x 1\n' })
    assert.equal((await ask({ socketPath }, '/constructor')).status, 404)
    const broken = await ask({ socketPath }, '/broken')
    assert.equal(broken.status, 500)
    assert.deepEqual(JSON.parse(broken.text), { message: 'the disk is full', remedy: 'free some space' })
  } finally {
    await api.close()
    await rm(folder, { recursive: true })
  }
})

test('a taken port is told with the port', async () => {
  const first = server()
  const second = server()
  const port = await first.listenTcp('127.0.0.1', 0)
  try {
    await assert.rejects(second.listenTcp('127.0.0.1', port), (error) => {
      assert.ok(error instanceof Fault)
      assert.equal(error.code, 'port.taken')
      assert.ok(error.message.includes(String(port)))
      return true
    })
    assert.equal((await ask({ port }, '/v1/healthz')).status, 200)
  } finally {
    await first.close()
    await second.close()
  }
})
