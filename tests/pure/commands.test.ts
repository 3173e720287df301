// Every command of package.json: --help tells and does nothing, an unknown option is refused, and a stack that is stopped
// is one line. New commands are covered by their name in package.json.
import { execFile } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>
}

/** Tools of developers, whose arguments are those of the test runner or of a benchmark. They act on no system of others. */
const TOOLS = /^(test|check|simulate|bench|docs|generate|prepare)(:|$)/
/** What is needed beside the name for the arguments to be right. */
const ARGUMENTS: Record<string, string[]> = {
  'dead-letters': ['list', 'ledger'],
  'ledger:adopt-topic': ['--yes'],
  'ledger:rebuild': ['--into', 'rebuilt_books'],
  'persons:erase': ['--user', '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11', '--check'],
}
/** Commands that need no running system. */
const ALONE = new Set([
  ...['start', 'reset', 'compose:env', 'audit:dependencies', 'keys:rotate-jwt', 'keys:rotate-checkpoint'],
  ...['schemas:freeze', 'consumer:pack', 'drill'],
])

type Command = { name: string; script: string; args: string[] }
const commands = Object.entries(scripts).flatMap(([name, line]): Command[] => {
  if (TOOLS.test(name)) return []
  const [, script, rest = ''] = /^(?:exec )?node (?:bootstrap\.mjs )?(\S+)(.*)$/.exec(line) ?? []
  if (script === undefined) throw new Error(`the command ${name} is not of the usual form: ${line}`)
  return [{ name, script, args: rest.trim() === '' ? [] : rest.trim().split(' ') }]
})

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A data folder of a stack that ran once, with a file whose loss would be seen. */
const makeData = (endpoints?: object) => {
  const folder = mkdtempSync(join(tmpdir(), 'pennywire-commands-'))
  folders.push(folder)
  writeFileSync(join(folder, 'stack.lock'), '')
  mkdirSync(join(folder, 'keys'))
  if (endpoints) writeFileSync(join(folder, 'keys', 'endpoints.json'), JSON.stringify(endpoints))
  return folder
}

const DATABASE = 'postgres://role:secret-word@127.0.0.1:1/pennywire'
/** Where nothing listens. */
const ENDPOINTS = {
  GATEWAY_URL: 'http://127.0.0.1:1',
  MAIL_URL: 'http://127.0.0.1:1',
  REGISTRY_URL: 'http://127.0.0.1:1',
  KAFKA_BROKERS: '127.0.0.1:1',
  PROVIDER_URL: 'http://127.0.0.1:1',
  ...Object.fromEntries(
    ['OWNER', 'GATEWAY', 'LEDGER', 'NOTIFIER', 'AUDIT'].map(of => [`${of}_DATABASE_URL`, DATABASE]),
  ),
}

const run = ({ script, args }: Command, more: string[], env: Record<string, string>) =>
  new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
    const { PATH = '', HOME = '' } = process.env
    const options = { cwd: root, env: { PATH, HOME, ...env }, timeout: 25_000 }
    execFile(process.execPath, [script, ...args, ...more], options, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    )
  })

/** What a command could have changed. */
const stateOf = (data: string) => ({
  data: readdirSync(data, { recursive: true, encoding: 'utf8' }).sort(),
  env: existsSync(join(root, '.env')),
  packed: readdirSync(root).filter(file => file.endsWith('.tgz')),
})
const noTrace = (text: string) => expect(text).not.toMatch(/^\s+at .+:\d+:\d+\)?$|node:internal|secret-word/m)

test('there are commands', () => expect(commands.length).toBeGreaterThan(12))

test.concurrent.each(commands)(
  '$name --help tells how it is used, with an example, and has no effect',
  async command => {
    const data = makeData()
    const before = stateOf(data)
    const [plain, mixed] = await Promise.all([
      run(command, ['--help'], { PENNYWIRE_DATA: data }),
      run(command, ['--help', '--yes', '--swap', '--drop'], { PENNYWIRE_DATA: data, ...ENDPOINTS }),
    ])
    expect(plain).toMatchObject({ code: 0, stderr: '' })
    expect(plain.stdout).toMatch(/^usage: /)
    expect(plain.stdout).toMatch(/^Example: .+/m)
    expect(plain.stdout).toContain('--help')
    noTrace(plain.stdout)
    // Beside other options it tells or refuses; it does nothing either way.
    expect([0, 2]).toContain(mixed.code)
    expect(stateOf(data)).toEqual(before)
  },
  60_000,
)

test.concurrent.each(commands)(
  '$name refuses an option that it does not know, with its usage, and does nothing',
  async command => {
    const data = makeData()
    const before = stateOf(data)
    const { code, stdout, stderr } = await run(command, ['--no-such-option'], {
      PENNYWIRE_DATA: data,
      ...ENDPOINTS,
      DATABASE_URL: DATABASE,
    })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('--no-such-option')
    expect(stderr).toMatch(/^usage: /m)
    noTrace(stderr)
    expect(stateOf(data)).toEqual(before)
  },
  60_000,
)

const needing = commands.filter(({ name }) => !ALONE.has(name))

test.concurrent.each(needing)(
  '$name: no stack was started, or it is stopped: one line that says what to do',
  async command => {
    const args = ARGUMENTS[command.name] ?? []
    const [never, stopped] = await Promise.all([
      run(command, args, { PENNYWIRE_DATA: join(tmpdir(), 'pennywire-never-started') }),
      run(command, args, { PENNYWIRE_DATA: makeData(ENDPOINTS) }),
    ])
    for (const { code, stdout, stderr } of [never, stopped]) {
      expect([2, 3]).toContain(code)
      expect(stdout).toBe('')
      expect(stderr.trimEnd().split('\n').length, stderr).toBe(1)
      expect(stderr).toContain('npm start')
      noTrace(stderr)
    }
  },
  60_000,
)

test('a copy of reset on a data folder removes it, so that the tests above would see it', async () => {
  const data = makeData()
  const copy = `${data}-copy`
  cpSync(data, copy, { recursive: true })
  folders.push(copy)
  const { code } = await run(commands.find(({ name }) => name === 'reset')!, [], { PENNYWIRE_DATA: copy })
  expect([code, existsSync(copy), existsSync(data)]).toEqual([0, false, true])
})
