import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { jsonFile, loadConfig, serviceSettings } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'config-'))
afterAll(() => rmSync(folder, { recursive: true }))

const fileWith = (text: string) => {
  const path = join(folder, `${text.length}.json`)
  writeFileSync(path, text)
  return path
}

const GOOD = {
  INSTANCE_ID: 'ledger-1',
  OPS_PORT: '8081',
  KAFKA_BROKERS: 'one:9092,two:9092',
  KAFKA_TLS: 'true',
  REGISTRY_URL: 'http://127.0.0.1:18081/apis',
  DATABASE_URL: 'postgres://ledger@127.0.0.1:5432/pennywire',
}

test('settings become values once, with their defaults, and stay as they are', () => {
  const config = loadConfig(serviceSettings, { ...GOOD, UNKNOWN: 'x' })
  expect(config).toEqual({
    INSTANCE_ID: 'ledger-1',
    OPS_HOST: '127.0.0.1',
    OPS_PORT: 8081,
    OPS_KEEP_SECONDS: 1,
    LOG_LEVEL: 'info',
    KAFKA_BROKERS: ['one:9092', 'two:9092'],
    KAFKA_TLS: 'true',
    REGISTRY_URL: 'http://127.0.0.1:18081/apis',
    DATABASE_URL: 'postgres://ledger@127.0.0.1:5432/pennywire',
  })
  expect(() => Object.assign(config, { OPS_PORT: 1 })).toThrow('read only')
})

/** Loads the service settings, and a key file, in a process of its own: a wrong setting ends it. */
const start = (env: Record<string, string>) =>
  spawnSync(
    process.execPath,
    [
      '--input-type=module',
      '--eval',
      `import { z } from 'zod'
       import { jsonFile, loadConfig, serviceSettings } from './config.ts'
       loadConfig({ ...serviceSettings, KEY_FILE: jsonFile(z.object({ kty: z.string() })).optional() }, process.env)
       console.log('started')`,
    ],
    { cwd: import.meta.dirname, env, encoding: 'utf8' },
  )

describe('a process with a wrong setting', () => {
  test('does not start where it is only one character off, and starts where it is right', () => {
    expect(start(GOOD)).toMatchObject({ status: 0, stdout: 'started\n', stderr: '' })
    expect(start({ ...GOOD, OPS_PORT: '8081x' })).toMatchObject({ status: 2, stdout: '' })
  })

  test.each<[string, Record<string, string>]>([
    ['OPS_PORT', { OPS_PORT: '65536' }],
    ['OPS_PORT', { OPS_PORT: '-1' }],
    ['OPS_PORT', { OPS_PORT: '80.5' }],
    ['LOG_LEVEL', { LOG_LEVEL: 'loud' }],
    ['INSTANCE_ID', { INSTANCE_ID: 'two words' }],
    ['KAFKA_BROKERS', { KAFKA_BROKERS: '' }],
    ['REGISTRY_URL', { REGISTRY_URL: 'here' }],
    ['KEY_FILE', { KEY_FILE: join(folder, 'none.json') }],
    ['KEY_FILE', { KEY_FILE: fileWith('{"kty"') }],
    ['KEY_FILE', { KEY_FILE: fileWith('{}') }],
  ])('names it: %s in %j', (name, wrong) => {
    const { status, stdout, stderr } = start({ ...GOOD, ...wrong })
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr.split('\n').filter(line => line !== '')).toEqual([
      expect.stringMatching(new RegExp(`^setting ${name}: .+`)),
    ])
  })

  test('names all of them at once, missing ones included', () => {
    const { DATABASE_URL: _, ...rest } = GOOD
    const { status, stderr } = start({ ...rest, OPS_PORT: 'x' })
    expect(status).toBe(2)
    expect(stderr).toMatch(/^setting OPS_PORT: /m)
    expect(stderr).toMatch(/^setting DATABASE_URL: /m)
  })

  test('tells nothing of what a secret setting holds', () => {
    const { stderr } = start({ ...GOOD, DATABASE_URL: 'not-a-url-but-s3cret', KEY_FILE: fileWith('s3cret') })
    expect(stderr).toContain('DATABASE_URL')
    expect(stderr).toContain('KEY_FILE')
    expect(stderr).not.toContain('s3cret')
  })
})

test('a setting that is a JSON file is what the file holds', () => {
  const shape = { KEY_FILE: jsonFile(z.object({ kty: z.string() })) }
  expect(loadConfig(shape, { KEY_FILE: fileWith('{"kty":"EC","more":1}') })).toEqual({
    KEY_FILE: { kty: 'EC' },
  })
})

describe('a setting in a file', () => {
  test('is what the file says, without the line end', () =>
    expect(
      loadConfig({ PASSWORD: z.string() }, { PASSWORD_FILE: fileWith('a secret with spaces \n') }).PASSWORD,
    ).toBe('a secret with spaces'))

  test.each([
    [{ DATABASE_URL_FILE: '/nowhere' }, 'setting DATABASE_URL: is set, and DATABASE_URL_FILE as well'],
    [{ KAFKA_SASL_PASSWORD_FILE: '/nowhere' }, 'setting KAFKA_SASL_PASSWORD_FILE: /nowhere cannot be used'],
  ])('%o does not start', (over, line) => {
    const { status, stderr } = start({ ...GOOD, ...over })
    expect([status, stderr]).toEqual([2, expect.stringContaining(line)])
  })
})

test('an unsafe setting ends the start, each in a line', () => {
  const { status, stderr } = start({
    ...GOOD,
    ...{ NODE_ENV: 'production', KAFKA_TLS: 'false', REGISTRY_URL: 'http://registry.internal' },
  })
  expect(status).toBe(2)
  expect(stderr.trim().split('\n').toSorted()).toEqual([
    'setting DATABASE_URL: its password is empty',
    'setting KAFKA_BROKERS: one is another machine, and KAFKA_TLS is not true: refused in production',
    'setting REGISTRY_URL: registry.internal is another machine, and the connection is not https://: refused in production',
  ])
})
