import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { NODES } from '#core/api/node.ts'
import { CONFIG_MAPS, PODS } from '#core/api/resources.ts'
import { serveKube } from '#test/kit/kube-server.ts'
import type { KubeClient } from './client.ts'
import type { Clock } from './clock.ts'
import { hasCode } from './errors.ts'
import { exec } from './exec.ts'
import { Informer } from './informer.ts'
import { logs } from './logs.ts'

/** Waits cost nothing, and are written down. */
class QuickClock implements Clock {
  time = 0
  readonly waits: number[] = []
  now(): number {
    return this.time
  }
  steady(): number {
    return this.time
  }
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.waits.push(ms)
    this.time += ms
    await turn()
    signal?.throwIfAborted()
  }
  random(): number {
    return 0.5
  }
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void

/** A server that gives the answers in order, the last one for ever. */
async function scripted(t: TestContext, ...answers: Answer[]) {
  const requests: string[] = []
  const clock = new QuickClock()
  const served = await serveKube(t, clock, (request, response) => {
    requests.push(`${request.method} ${request.url}`)
    const answer = answers.length > 1 ? (answers.shift() as Answer) : (answers[0] as Answer)
    answer(request, response)
  })
  return { ...served, clock, requests }
}

function json(status: number, body: unknown, headers: Record<string, string> = {}): Answer {
  return (_request, response) => {
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
  }
}

function stream(...lines: readonly string[]): Answer {
  return (_request, response) => {
    response.writeHead(200)
    for (const line of lines) response.write(line)
    response.end()
  }
}

const node = (name: string, rv: string, uid = name) => ({ metadata: { name, uid, resourceVersion: rv } })
const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`
const initialEnd = (rv: string) =>
  event('BOOKMARK', { metadata: { resourceVersion: rv, annotations: { 'k8s.io/initial-events-end': 'true' } } })
/** Keeps the connection open. */
const hold =
  (...lines: readonly string[]): Answer =>
  (_request, response) => {
    response.writeHead(200)
    for (const line of lines) response.write(line)
  }

for (const [reason, http, code] of [
  ['NotFound', 404, 'kube.not-found'],
  ['AlreadyExists', 409, 'kube.already-exists'],
  ['Conflict', 409, 'kube.conflict'],
  ['Forbidden', 403, 'kube.forbidden'],
  ['Expired', 410, 'kube.expired'],
  ['Invalid', 422, 'kube.invalid'],
  ['InternalError', 500, 'kube.unavailable'],
] as const) {
  test(`Status ${reason} becomes ${code}, naming the object`, async (t) => {
    const { client } = await scripted(t, json(http, { kind: 'Status', reason, code: http, message: 'because' }))
    await assert.rejects(
      client.get(NODES, 'kind-worker'),
      (error) => hasCode(error, code) && /get Node kind-worker: because/.test(String(error)),
    )
  })
}

test('a proxy page instead of a Status is still told by its number', async (t) => {
  const { client } = await scripted(t, (_request, response) => response.writeHead(503).end('<html>'.repeat(50_000)))
  await assert.rejects(client.get(NODES, 'a'), (error) => hasCode(error, 'kube.unavailable'))
})

test('a busy server is asked again after the time that it names', async (t) => {
  const busy = json(429, { kind: 'Status', reason: 'TooManyRequests', code: 429 }, { 'Retry-After': '3' })
  const { client, clock } = await scripted(t, busy, busy, json(200, node('a', '1')))
  assert.equal((await client.get(NODES, 'a')).metadata.name, 'a')
  assert.deepEqual(clock.waits, [3000, 3000])
})

test('a refused identity is fetched anew once, not for ever', async (t) => {
  const refused = json(401, { kind: 'Status', reason: 'Unauthorized', code: 401 })
  const { client, requests } = await scripted(t, refused)
  await assert.rejects(client.get(NODES, 'a'), (error) => hasCode(error, 'kube.unauthorized'))
  assert.equal(requests.length, 2)
})

test('a kept connection that was closed meanwhile costs a GET nothing', async (t) => {
  const { client, server } = await scripted(t, json(200, node('a', '1')))
  await client.get(NODES, 'a')
  server.closeAllConnections()
  assert.equal((await client.get(NODES, 'a')).metadata.name, 'a')
})

test('nobody there is kube.unreachable, naming the server', async (t) => {
  const { client, server, port } = await scripted(t, json(200, {}))
  server.close()
  await assert.rejects(
    client.get(NODES, 'a'),
    (error) => hasCode(error, 'kube.unreachable') && String(error).includes(`127.0.0.1:${port}`),
  )
})

test('a server that says nothing is given up in the asked time; an abort passes as it is', async (t) => {
  const { client } = await scripted(t, () => undefined)
  await assert.rejects(client.get(NODES, 'a', { timeoutMs: 20 }), (error) => hasCode(error, 'kube.timeout'))
  const signal = AbortSignal.abort()
  await assert.rejects(client.get(NODES, 'a', { signal }), { name: 'AbortError' })
})

test('an empty name is never sent: it would mean the whole collection', async (t) => {
  const { client, requests } = await scripted(t, json(200, {}))
  for (const name of ['', '.', '..']) await assert.rejects(client.delete(CONFIG_MAPS, name), TypeError)
  assert.deepEqual(requests, [])
  await client.get(CONFIG_MAPS, 'a/b?c')
  assert.deepEqual(requests, ['GET /api/v1/namespaces/default/configmaps/a%2Fb%3Fc'])
})

test('a list is fetched page by page and begins anew when the server forgot it', async (t) => {
  const page = (names: readonly string[], next: string) =>
    json(200, { metadata: { resourceVersion: '9', continue: next }, items: names.map((name) => node(name, '1')) })
  const gone = json(410, { kind: 'Status', reason: 'Expired', code: 410 })
  const { client, requests } = await scripted(t, page(['a'], 'x'), gone, page(['a'], 'y'), page(['b'], ''))
  const { items, resourceVersion } = await client.listAll(NODES)
  assert.deepEqual(
    items.map((item) => item.metadata.name),
    ['a', 'b'],
  )
  assert.equal(resourceVersion, '9')
  assert.equal(requests.length, 4)
})

function follow(client: KubeClient, more: object = {}) {
  const seen: string[] = []
  const failures: unknown[] = []
  const informer = new Informer(client, NODES, {
    onChange: ({ type, object }) => seen.push(`${type} ${object.metadata.name} ${object.metadata.resourceVersion}`),
    onFailure: (error) => failures.push(error),
    ...more,
  })
  return { informer, seen, failures }
}

async function until(condition: () => boolean): Promise<void> {
  // each turn lets sockets and promises go on; a test that never gets there is ended by the runner
  while (!condition()) await turn()
}

test('a stream of what exists replaces the copy in one step', async (t) => {
  const { client } = await scripted(
    t,
    hold(
      event('ADDED', node('a', '1')),
      event('ADDED', node('b', '2')),
      initialEnd('5'),
      event('MODIFIED', node('a', '6')),
    ),
  )
  const { informer, seen } = follow(client)
  await informer.start().synced
  await until(() => seen.length === 3)
  assert.deepEqual(seen, ['added a 1', 'added b 2', 'changed a 6'])
  assert.equal(informer.health().resourceVersion, '6')
  await informer.stop()
})

test('after 410 everything is fetched anew, and only differences are told', async (t) => {
  const expired = event('ERROR', { kind: 'Status', reason: 'Expired', code: 410, message: 'too old' })
  const { client } = await scripted(
    t,
    stream(event('ADDED', node('a', '1')), event('ADDED', node('b', '2')), initialEnd('5'), expired),
    hold(
      event('ADDED', node('b', '2')),
      event('ADDED', node('c', '7')),
      event('ADDED', node('d', '8')),
      initialEnd('9'),
    ),
  )
  const { informer, seen, failures } = follow(client)
  informer.start()
  await until(() => seen.length === 5)
  assert.deepEqual(seen, ['added a 1', 'added b 2', 'removed a 1', 'added c 7', 'added d 8'])
  assert.ok(hasCode(failures[0], 'kube.expired'))
  await informer.stop()
})

test('a garbled line makes it look at everything again; the copy stands meanwhile', async (t) => {
  const { client } = await scripted(
    t,
    stream(event('ADDED', node('a', '1')), initialEnd('5'), '{"type":"ADDED","obj\n'),
    hold(event('ADDED', node('a', '1')), event('ADDED', node('b', '6')), initialEnd('6')),
  )
  const { informer, seen, failures } = follow(client)
  informer.start()
  await until(() => failures.length === 1)
  assert.equal(informer.list().length, 1)
  await until(() => seen.length === 2)
  assert.deepEqual(seen, ['added a 1', 'added b 6'])
  await informer.stop()
})

test('a watch that merely ends goes on where it was', async (t) => {
  const { client, requests } = await scripted(
    t,
    stream(event('ADDED', node('a', '1')), initialEnd('5'), event('BOOKMARK', { metadata: { resourceVersion: '40' } })),
    hold(event('ADDED', node('b', '41'))),
  )
  const { informer, seen } = follow(client)
  informer.start()
  await until(() => seen.length === 2)
  assert.match(requests[1] ?? '', /resourceVersion=40/)
  assert.equal(informer.health().relists, 1)
  await informer.stop()
})

test('a server that does not stream lists is listed', async (t) => {
  const forbidden = json(422, {
    kind: 'Status',
    reason: 'Invalid',
    code: 422,
    message: 'sendInitialEvents is forbidden',
  })
  const { client, requests } = await scripted(
    t,
    forbidden,
    json(200, { metadata: { resourceVersion: '5' }, items: [node('a', '1')] }),
    hold(event('DELETED', node('a', '6'))),
  )
  const { informer, seen, failures } = follow(client)
  informer.start()
  await until(() => seen.length === 2)
  assert.deepEqual(seen, ['added a 1', 'removed a 6'])
  assert.deepEqual(failures, [])
  assert.match(requests[1] ?? '', /limit=500/)
  await informer.stop()
})

test('a server that ends every watch at once, or fails, is asked ever more slowly', async (t) => {
  const { client, clock } = await scripted(t, stream(event('ADDED', node('a', '1')), initialEnd('5')), stream())
  const { informer } = follow(client)
  informer.start()
  await until(() => clock.waits.length >= 8)
  await informer.stop()
  const [, second = 0, , , , , , last = 0] = clock.waits
  assert.ok(last > 10 * second, clock.waits.join())
})

test('an object made anew under its name is first removed', async (t) => {
  const { client } = await scripted(
    t,
    hold(event('ADDED', node('a', '1', 'u1')), initialEnd('1'), event('MODIFIED', node('a', '2', 'u2'))),
  )
  const { informer, seen } = follow(client)
  informer.start()
  await until(() => seen.length === 3)
  assert.deepEqual(seen, ['added a 1', 'removed a 1', 'added a 2'])
  await informer.stop()
})

test('a handler that throws stops nothing', async (t) => {
  const { client } = await scripted(
    t,
    hold(event('ADDED', node('a', '1')), event('ADDED', node('b', '2')), initialEnd('2')),
  )
  const failures: unknown[] = []
  const informer = new Informer(client, NODES, {
    onChange: () => {
      throw new Error('handler')
    },
    onFailure: (error) => failures.push(error),
  }).start()
  await informer.synced
  assert.equal(informer.list().length, 2)
  assert.equal(failures.length, 2)
  await informer.stop()
})

test('an informer of all pods is refused', async (t) => {
  const { client } = await scripted(t, json(200, {}))
  assert.throws(() => new Informer(client, PODS, {}), /selector/)
  assert.throws(() => new Informer(client, PODS, { namespace: 'x' }), /selector/)
})

test('stopping ends a waiting synced', async (t) => {
  const { client } = await scripted(t, () => undefined)
  const informer = new Informer(client, NODES).start()
  const waiting = assert.rejects(informer.synced)
  await informer.stop()
  await waiting
})

test('log lines come whole', async (t) => {
  const { client, requests } = await scripted(t, stream('one\ntw', 'o\nthree'))
  const lines = await Array.fromAsync(logs(client, 'p', { namespace: 'n', container: 'c', tailLines: 3 }))
  assert.deepEqual(lines, ['one', 'two', 'three'])
  assert.deepEqual(requests, ['GET /api/v1/namespaces/n/pods/p/log?container=c&tailLines=3'])
})

async function execServer(t: TestContext, frames: readonly (readonly [number, string])[]) {
  const { WebSocketServer } = await import('ws')
  const { client, server } = await scripted(
    t,
    json(403, { kind: 'Status', reason: 'Forbidden', code: 403, message: 'no' }),
  )
  const asked: string[] = []
  const got: Buffer[] = []
  if (frames.length > 0) {
    const sockets = new WebSocketServer({ server, handleProtocols: (offered) => [...offered][0] ?? false })
    sockets.on('connection', (socket, request) => {
      asked.push(`${request.url} ${request.headers.authorization} ${socket.protocol}`)
      socket.on('message', (data) => got.push(data as Buffer))
      for (const [channel, text] of frames) socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]))
      socket.close()
    })
    t.after(() => {
      for (const socket of sockets.clients) socket.terminate()
    })
  }
  return { client, asked, got }
}

test('exec gives both streams and the exit code', async (t) => {
  const failed = {
    status: 'Failure',
    reason: 'NonZeroExitCode',
    details: { causes: [{ reason: 'ExitCode', message: '7' }] },
  }
  const { client, asked } = await execServer(t, [
    [1, 'ou'],
    [2, 'err'],
    [1, 't'],
    [3, JSON.stringify(failed)],
  ])
  const result = await exec(client, 'p', ['sh', '-c', 'a b'], { namespace: 'n', container: 'c' })
  assert.deepEqual(result, { stdout: 'out', stderr: 'err', exitCode: 7 })
  assert.deepEqual(asked, [
    '/api/v1/namespaces/n/pods/p/exec?command=sh&command=-c&command=a+b&container=c&stdout=true&stderr=true Bearer tok v5.channel.k8s.io',
  ])
})

test('exec: success is 0; no exit code, a lost connection and a refusal are faults', async (t) => {
  const good = await execServer(t, [[3, '{"status":"Success"}']])
  assert.equal((await exec(good.client, 'p', ['true'])).exitCode, 0)
  const bad = await execServer(t, [[3, '{"status":"Failure","message":"container not found"}']])
  await assert.rejects(exec(bad.client, 'p', ['true']), /container not found/)
  const lost = await execServer(t, [[1, 'x']])
  await assert.rejects(exec(lost.client, 'p', ['true']), (error) => hasCode(error, 'kube.exec'))
  const refused = await execServer(t, [])
  await assert.rejects(exec(refused.client, 'p', ['true']), (error) => hasCode(error, 'kube.forbidden'))
})
