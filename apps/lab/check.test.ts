import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { type TestContext, test } from 'node:test'
import { checkPrograms } from './check.ts'
import { layOut } from './layout.ts'
import { CLUSTER_PROGRAMS, KUBERNETES_VERSION, PROGRAMS } from './programs/pins.ts'
import { programVersion } from './programs/version.ts'
import { refuseOther } from './up.ts'

const etcdVersion = PROGRAMS.find(({ name }) => name === 'etcd')?.version ?? ''

/** What the real ones print. */
const WORDS: Readonly<Record<string, string>> = {
  etcd: `etcd Version: ${etcdVersion}\\nGit SHA: Not provided\\nGo Version: go1.26.0`,
  kubectl: `Client Version: v${KUBERNETES_VERSION}\\nKustomize Version: v5.7.1`,
}

/** A folder of programs that only say their version, `change` of them something else. */
function programs(t: TestContext, change: Readonly<Record<string, string | undefined>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'pc-programs-'))
  t.after(() => rmSync(folder, { recursive: true }))
  for (const name of CLUSTER_PROGRAMS) {
    const says = name in change ? change[name] : (WORDS[name] ?? `Kubernetes v${KUBERNETES_VERSION}`)
    if (says === undefined) continue
    writeFileSync(join(folder, name), `#!/bin/sh\nprintf '${says}\\n'\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return folder
}

test('--kubernetes-bin takes a folder with the right versions, and gives it absolute', async (t) => {
  const folder = programs(t, { kubelet: `Kubernetes v${KUBERNETES_VERSION}+build.7` })
  assert.equal(await checkPrograms(relative(process.cwd(), folder)), folder)
})

for (const [what, change, sentence] of [
  ['another version', { kubelet: 'Kubernetes v1.33.1' }, / holds kubelet 1\.33\.1 \(not [0-9.]+\)$/],
  ['a candidate', { kubectl: `Client Version: v${KUBERNETES_VERSION}-rc.1` }, / holds kubectl [0-9.]+-rc\.1 \(not /],
  ['no version', { etcd: 'hello' }, / holds etcd of no known version \(not /],
  [
    'two others',
    { etcd: 'etcd Version: 3.4.30', kubelet: 'Kubernetes v1.30.0' },
    /kubelet 1\.30\.0 .*, etcd 3\.4\.30 /,
  ],
  ['nothing of a name', { 'kube-proxy': undefined }, / lacks kube-proxy$/],
] as const) {
  test(`--kubernetes-bin refuses a folder with ${what}`, async (t) => {
    await assert.rejects(checkPrograms(programs(t, change)), (error: Error & { field?: string; remedy?: string }) => {
      assert.match(error.message, sentence)
      assert.equal(error.field, '--kubernetes-bin')
      assert.match(error.remedy ?? '', /^Name a folder/)
      return true
    })
  })
}

test('a program that fails, or has no way to say its version, has none', async (t) => {
  const folder = programs(t, { kubelet: `Kubernetes v${KUBERNETES_VERSION}\\n'; exit 3; echo '` })
  const pin = (name: string) => PROGRAMS.find((each) => each.name === name) ?? assert.fail(name)
  assert.equal(await programVersion(pin('kubelet'), join(folder, 'kubelet')), undefined)
  assert.equal(await programVersion(pin('pause'), join(folder, 'etcd')), undefined)
  assert.equal(await programVersion(pin('etcd'), join(folder, 'etcd')), etcdVersion)
})

test('a lab that is up is not taken for one of other programs, nodes or families', () => {
  const asked = { name: 'kind', nodes: 2, family: 'ipv4', kubernetesBin: undefined, retain: false } as const
  const before = { options: layOut({ ...asked, underlay: 18 }), programs: '/opt/a' }
  refuseOther(before, asked)
  refuseOther(before, { ...asked, kubernetesBin: '/opt/b/../a/' })
  const differs = { code: 'lab.differs', message: 'the lab kind is up with 2 nodes, ipv4' }
  assert.throws(() => refuseOther(before, { ...asked, nodes: 3 }), differs)
  assert.throws(() => refuseOther(before, { ...asked, family: 'dual' }), differs)
  assert.throws(() => refuseOther(before, { ...asked, kubernetesBin: '/opt/b' }), {
    ...differs,
    message: `${differs.message}, with the programs of /opt/a`,
  })
})
