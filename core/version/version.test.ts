import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ciliumVersion, VERSION } from './version.ts'

test('the version is that of package.json', () => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string
  }
  assert.equal(VERSION, manifest.version)
})

test('to tools of Cilium, the version is a semantic one of the profile', () => {
  const says = (profile: string | undefined) => ciliumVersion(profile).split('-')[0]
  assert.equal(says(undefined), '1.18.0')
  assert.equal(says('1.14.5'), '1.14.5')
  assert.equal(says('v1.17'), '1.17.0')
  assert.equal(says('1.19.0-rc.1'), '1.19.0')
  assert.equal(ciliumVersion(undefined), `1.18.0-pellicle.${VERSION}`)
})
