// The container files cannot run where no image can be pulled: this test checks everything that needs no container.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KAFKA_USERS } from '@pennywire/kafka/access.ts'
import { makeKeys } from '@pennywire/stack/keys.ts'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'

const root = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

type Service = {
  image: string
  build?: string
  command?: string[]
  environment?: Record<string, string>
  ports?: string[]
  volumes?: string[]
  read_only?: boolean
  cap_drop?: string[]
  security_opt?: string[]
  mem_limit?: string
  healthcheck?: object
  depends_on?: Record<string, { condition: string }>
}

type Compose = { services: Record<string, Service>; volumes?: object }
/** The file as compose reads it: unset variables get their defaults, required ones a placeholder. */
const readCompose = (file: string): Compose =>
  parse(
    read(file)
      .replace(/\$\{\w+:-([^}]*)\}/g, '$1')
      .replace(/\$\{(\w+):\?[^}]*\}/g, (_, name: string) => `set-${name.toLowerCase().replaceAll('_', '-')}`),
    { merge: true },
  )
const compose = readCompose('docker-compose.yml')
const production = readCompose('docker-compose.production.yml')
const { services } = compose
const OURS = ['gateway', 'ledger', 'notifier', 'audit']

/** A process that starts and tries to reach missing servers needs a second, but many seconds on a busy machine. */
const START_TIMEOUT_MS = 60_000

let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pennywire-containers-'))
  await makeKeys(folder)
})
afterAll(() => rmSync(folder, { recursive: true }))

/** The first output of a process. Its servers are missing, so it soon logs something, whether or not it then exits. */
const firstWords = async (name: string): Promise<{ said: string; code: number | null }> => {
  const { command = [], environment = {} } = services[name]!
  const env = Object.fromEntries(
    Object.entries(environment).map(([setting, value]) => [
      setting,
      setting.endsWith('_PORT')
        ? '0'
        : value
            .replace(/^\/keys\//, `${folder}/keys/`)
            .replace(/\b(kafka|registry|postgres|redis):\d+/, '127.0.0.1:1'),
    ]),
  )
  const child = spawn(process.execPath, command.slice(1), { cwd: root, env })
  let said = ''
  const spoke = new Promise<void>(resolve => {
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', text => {
        said += text
        resolve()
      })
  })
  const ended = once(child, 'close')
  await Promise.race([spoke, ended])
  const code = child.exitCode
  child.kill('SIGKILL')
  await ended
  return { said, code }
}

test.each(OURS)(
  '%s gets every setting that its start requires',
  { timeout: START_TIMEOUT_MS },
  async name => {
    const { said, code } = await firstWords(name)
    expect(said).not.toMatch(/^setting /m)
    expect(code).not.toBe(2)
  },
)

test('a setting that is missing would be found', { timeout: START_TIMEOUT_MS }, async () => {
  const { LEDGER_READ_URL: _, ...rest } = services.gateway!.environment!
  const whole = services.gateway!
  services.gateway = { ...whole, environment: rest }
  try {
    expect((await firstWords('gateway')).said).toContain('setting LEDGER_READ_URL')
  } finally {
    services.gateway = whole
  }
})

test('every command runs a file that is there, on the one image', () => {
  const own = Object.values(services).filter(({ image }) => image === 'pennywire')
  expect(own.length).toBeGreaterThan(OURS.length)
  for (const { command, build } of own) {
    expect(build).toBe('.')
    expect(command![0]).toBe('node')
    expect(existsSync(join(root, command![1]!)), command![1]).toBe(true)
  }
})

test('each role has one password', () => {
  const { environment: given } = services.database!
  const urls = Object.values(services).flatMap(({ environment = {} }) =>
    Object.values(environment).filter(value => value.startsWith('postgres://')),
  )
  expect(urls.length).toBeGreaterThan(OURS.length)
  for (const url of urls) {
    const { username, password, pathname } = new URL(url)
    expect([password, pathname]).toEqual([given![`${username.toUpperCase()}_PASSWORD`], '/pennywire'])
  }
  expect(services.postgres!.environment!.POSTGRES_PASSWORD).toBe(given!.POSTGRES_PASSWORD)
  expect(services.registry!.environment!.REGISTRY_DATASOURCE_PASSWORD).toBe(given!.REGISTRY_PASSWORD)
})

test('nothing is reached from another machine', () => {
  for (const { ports = [] } of Object.values(services))
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/)
})

test('the ports are those of npm start', () => {
  const usual = new Map(
    read('packages/stack/src/read-settings.ts')
      .matchAll(/(\w+)_PORT: port\((\d+)\)/g)
      .map(([, name, port]) => [name!.toLowerCase().replace('_http', ''), port!]),
  )
  for (const [name, port] of usual) expect(services[name]!.ports![0], name).toContain(`127.0.0.1:${port}:`)
})

test('what is waited for is there', () => {
  for (const { depends_on = {} } of Object.values(services))
    for (const name of Object.keys(depends_on)) expect(services).toHaveProperty(name)
})

test('the image has the Node and the pnpm of bootstrap.mjs', () => {
  const bootstrap = read('bootstrap.mjs')
  for (const [name, of] of [
    ['NODE', 'NODE_VERSION'],
    ['PNPM', 'PNPM_VERSION'],
  ]) {
    const [, version] = new RegExp(`const ${name} = '(.*)'`).exec(bootstrap)!
    expect(read('Dockerfile')).toContain(`ARG ${of}=${version}\n`)
  }
})

test('Kafka and the registry are of the versions that the embedded stack runs', () => {
  const pom = read('packages/stack/pom.xml')
  const versionOf = (artifact: string) =>
    new RegExp(`<artifactId>${artifact}</artifactId>\\s*<version>(.*)</version>`).exec(pom)![1]
  expect(services.kafka!.image).toBe(`apache/kafka:${versionOf('kafka_2.13')}`)
  expect(services.registry!.image).toBe(
    `apicurio/apicurio-registry-sql:${versionOf('apicurio-registry-app')}`,
  )
})

describe.each([
  ['docker-compose.yml', compose],
  ['docker-compose.production.yml', production],
])('%s', (file, { services }) => {
  test('has no default for what is secret', () => {
    expect(read(file)).not.toMatch(/\$\{\w*(PASSWORD|SECRET|KEY|TOKEN)\w*:-/)
    expect(read(file)).not.toMatch(/(PASSWORD|password)\w*: (?!\$\{\w+:\?|\/secrets\/)/)
  })

  test.each(Object.entries(services))('%s has no more rights than it needs', (name, service) => {
    expect([service.cap_drop, service.security_opt]).toEqual([['ALL'], ['no-new-privileges:true']])
    expect(service.mem_limit).toMatch(/^\d+[mg]$/)
    const ours = service.command?.[0] === 'node'
    if (ours) expect(service.read_only, name).toBe(true)
  })

  test('each service sees no keys but its own, and cannot change them', () => {
    for (const name of OURS) {
      // The file of the audit trail's checkpoints, which it alone writes.
      const mounts = (services[name]!.volumes ?? []).filter(
        mount => name !== 'audit' || !mount.endsWith(':/checkpoints'),
      )
      for (const mount of mounts) expect(mount).toMatch(new RegExp(`(^|[-/])${name}:/(keys|secrets):ro$`))
      const keys = Object.values(services[name]!.environment ?? {}).filter(value =>
        /^\/(keys|secrets)\//.test(value),
      )
      expect(keys.length > 0).toBe(mounts.length > 0)
    }
  })
})

test('every user of Kafka’s access lists may sign in, with a password of its own', () => {
  const text = read('docker-compose.yml')
  for (const user of KAFKA_USERS)
    expect(text).toContain(` user_${user}="\${KAFKA_${user.toUpperCase()}_PASSWORD:?npm run compose:env}"`)
})

describe('npm run compose:env', () => {
  const required = [...new Set(read('docker-compose.yml').match(/(?<=\$\{)\w+_PASSWORD(?=:\?)/g))]
  let copy: string
  beforeEach(() => {
    copy = mkdtempSync(join(tmpdir(), 'pennywire-compose-'))
    for (const file of ['docker-compose.yml', 'packages/stack/src/make-compose-env.ts'])
      cpSync(join(root, file), join(copy, file))
    symlinkSync(join(root, 'packages/stack/node_modules'), join(copy, 'packages/stack/node_modules'))
  })
  afterEach(() => rmSync(copy, { recursive: true }))

  const makeEnv = () => {
    const script = join(copy, 'packages/stack/src/make-compose-env.ts')
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], { encoding: 'utf8' })
    return { status, said: stdout + stderr, env: readFileSync(join(copy, '.env'), 'utf8') }
  }
  const namesIn = (env: string) => [...env.matchAll(/^(\w+)=[0-9a-f]{48}$/gm)].map(([, name]) => name)

  test('every required password is written once, each another, for the owner alone', () => {
    const { status, env } = makeEnv()
    expect([status, namesIn(env)]).toEqual([0, required])
    expect(new Set(env.match(/[0-9a-f]{48}/g)).size).toBe(required.length)
    expect(statSync(join(copy, '.env')).mode & 0o777).toBe(0o600)
    expect(makeEnv()).toEqual({ status: 1, said: expect.stringContaining('is there already'), env })
  })

  test('a file of an older version keeps its passwords and gets the missing ones', () => {
    writeFileSync(join(copy, '.env'), 'KAFKA_ADMIN_PASSWORD=of the volume\nMORE=1')
    const { status, said, env } = makeEnv()
    expect(status).toBe(0)
    expect(env).toMatch(/^KAFKA_ADMIN_PASSWORD=of the volume\nMORE=1\n/)
    expect(namesIn(env)).toEqual(required.filter(name => name !== 'KAFKA_ADMIN_PASSWORD'))
    expect(said).toContain('KAFKA_DOWNSTREAM_PASSWORD')
    expect(said).not.toMatch(/[0-9a-f]{48}/)
  })
})

test('in production nothing is in plain text by the file itself, and no part is for trials', () => {
  expect(Object.keys(production.services).toSorted()).toEqual(OURS.toSorted())
  for (const { environment = {} } of Object.values(production.services)) {
    expect(environment).toMatchObject({ NODE_ENV: 'production', KAFKA_TLS: 'true' })
    expect(environment).not.toHaveProperty('ALLOW_PLAINTEXT')
  }
})

test('a version is not taken before it is some days old', () =>
  expect(parse(read('pnpm-workspace.yaml')).minimumReleaseAge).toBeGreaterThanOrEqual(24 * 60))
