// `npm run test:openapi`: starts its own system and runs schemathesis over its document, as a user, as an admin, and as
// a person who may lock the PIN and end the session. Needs Python 3.10 or newer with venv, or SCHEMATHESIS, the path of
// the program. Words after `--` are passed to schemathesis. Exits with 1 if it finds a failure.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { type Guard, startGuard } from '@pennywire/stack/connect-guard.ts'
import { startStack } from '@pennywire/stack/stack.ts'
import { type System, startSystem } from '@pennywire/stack/system.ts'
import { TEST_SETTINGS } from '../system-context.ts'
import { documentFor, ENDLESS, ENDS_SESSIONS, type Known, makeKnown, operationsOf } from './document-for.ts'
import { makePerson, type Person, signIn } from './people.ts'

const VERSION = '4.32.5'
/** Examples per operation in the random phase; the length of the systematic phases follows from the document. */
const EXAMPLES = '50'
const SEED = '5'
const RUN_WITHIN_MS = 20 * 60_000
const SETTINGS = { ...TEST_SETTINGS, STEP_UP_SECONDS: '3600', LOG_LEVEL: 'info' }

/**
 * Not among them: positive_data_acceptance, because a well-formed request may still be refused (a balance, a limit,
 * another person's wallet).
 */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'missing_required_header',
  'unsupported_method',
  'allow_header_conformance',
  'ignored_auth',
]

const say = (line: string) => console.log(line)
const root = join(import.meta.dirname, '..', '..')

/** The path of schemathesis, which is installed once beside the other dependencies. */
const findSchemathesis = (): string => {
  const { SCHEMATHESIS: given } = process.env
  if (given) return given
  const folder = join(root, 'node_modules', '.cache', `schemathesis-${VERSION}`)
  const program = join(folder, 'bin', 'schemathesis')
  const complete = join(folder, 'complete')
  if (existsSync(complete)) return program
  say(`Installing schemathesis ${VERSION} from PyPI into ${folder} ...`)
  const run = (file: string, ...args: string[]) => {
    const { status, error } = spawnSync(file, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    if (status === 0) return
    rmSync(folder, { recursive: true, force: true })
    throw new Error(
      `${file} ${args.join(' ')} failed${error ? ` (${error.message})` : ''}. Python 3.10 or newer with venv is ` +
        'needed, or SCHEMATHESIS with the path of the program.',
    )
  }
  run('python3', '-m', 'venv', folder)
  run(join(folder, 'bin', 'pip'), 'install', '--quiet', `schemathesis==${VERSION}`)
  writeFileSync(complete, '')
  return program
}

/** The routes that never answered 2xx: a clean result means little for them. */
const neverDone = (logFile: string, document: object): string[] => {
  const done = new Set<string>()
  for (const line of readFileSync(logFile, 'utf8').split('\n')) {
    const [, method, route, status] = /"method":"(\w+)","route":"([^"]+)","status":(\d+)/.exec(line) ?? []
    if (status?.startsWith('2')) done.add(`${method} ${route!.replaceAll(/:(\w+)/g, '{$1}')}`)
  }
  return operationsOf(document).filter(operation => !done.has(operation))
}

/** `staff`: true requests only staff routes, with the step-up token that they need; false only the others. */
type Run = { who: string; person: Person; known: Known; only: boolean; narrow: boolean; staff?: boolean }

const STAFF_ROUTES = /^\/v1\/admin\//

let guard: Guard | undefined
let ending = false
let running: ReturnType<typeof spawn> | undefined

/** Runs schemathesis once over the document; returns whether it found no failure. */
const runAs = async (
  program: string,
  system: System,
  sql: Database,
  dataDir: string,
  run: Run,
): Promise<boolean> => {
  const { who, person, known, only, narrow, staff } = run
  await signIn(system, person, sql)
  const { gatewayUrl } = system
  const file = join(dataDir, 'openapi.json')
  const document = await (await fetch(`${gatewayUrl}/openapi.json`)).json()
  const asked = documentFor(document, known, narrow)
  for (const path of Object.keys(asked.paths)) {
    if (staff !== undefined && STAFF_ROUTES.test(path) !== staff) delete asked.paths[path]
  }
  writeFileSync(file, JSON.stringify(asked))
  const excluded = [
    ...ENDS_SESSIONS.flatMap(path => [only ? '--include-path' : '--exclude-path', path]),
    ...ENDLESS.flatMap(path => ['--exclude-path', path]),
  ]
  const stepUp = staff ? person.staffStepUp : person.stepUp
  say(`\nAs ${who}`)
  const child = spawn(
    program,
    [
      ...['run', file, '--url', gatewayUrl, '--checks', CHECKS.join(','), '--continue-on-failure'],
      ...['--max-examples', EXAMPLES, '--seed', SEED, '--generation-database', 'none', '--no-color'],
      ...['--suppress-health-check', 'all', '--warnings', 'off', '--request-timeout', '30'],
      ...['-H', `Authorization: Bearer ${person.token}`, '-H', `Step-Up-Token: ${stepUp}`],
      ...(narrow ? ['--mode', 'positive', '--phases', 'examples,fuzzing,stateful'] : []),
      ...excluded,
      ...process.argv.slice(2),
    ],
    { cwd: dataDir, stdio: ['ignore', 'inherit', 'inherit'], timeout: RUN_WITHIN_MS },
  )
  running = child
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', resolve)
  })
  running = undefined
  return code === 0
}

const runAll = async (): Promise<number> => {
  const program = findSchemathesis()
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-openapi-'))
  const end = async (code: number) => {
    ending = true
    running?.kill()
    await guard?.stop()
    rmSync(dataDir, { recursive: true, force: true })
    return code
  }
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      if (!ending) void end(code).then(process.exit)
    })
  }
  try {
    guard = await startGuard(dataDir, say)
    say('Starting a stack of its own ...')
    process.env.SANDBOX_DELAY_MS = SETTINGS.SANDBOX_DELAY_MS
    const system = await startSystem(await startStack({ dataDir, guard }), { env: { all: SETTINGS } })
    const [user, other, admin, guest] = [
      await makePerson(system, '100000.00'),
      await makePerson(system, '100000.00'),
      await makePerson(system, '100000.00'),
      await makePerson(system, '100000.00'),
    ]
    const superuser = system.superuserUrl.replace(/\/postgres$/, '/pennywire')
    const sql = openDatabase(superuser, { applicationName: 'openapi' })
    await sql`update gateway.users set roles = array['user', 'admin'] where id = ${admin.userId}`
    admin.isAdmin = true
    const third = await makePerson(system, '100000.00')
    const runOf = async (who: string, person: Person, only = false): Promise<Run> => {
      return { who, person, known: await makeKnown(system, person, other, third), only, narrow: false }
    }
    const asUser = await runOf('a user', user)
    const asAdmin = await runOf('an admin', admin)
    const runs: Run[] = [
      { ...asUser, who: 'a user who asks for what can be done', narrow: true },
      { ...asAdmin, who: 'an admin who asks for what can be done as a user', narrow: true, staff: false },
      { ...asAdmin, who: 'an admin who asks for what can be done as staff', narrow: true, staff: true },
      asUser,
      { ...asAdmin, who: 'an admin among the routes of users', staff: false },
      { ...asAdmin, who: 'an admin among the routes of staff', staff: true },
      await runOf('a guest', guest, true),
    ]
    let clean = true
    for (const run of runs) {
      if (ending) break
      clean = (await runAs(program, system, sql, dataDir, run)) && clean
    }
    await sql.end()
    const verify = join(root, 'services', 'ledger', 'src', 'verify-books.ts')
    const books = spawnSync(process.execPath, [verify], { env: system.env('ledger'), stdio: 'inherit' })
    const document = await (await fetch(`${system.gatewayUrl}/openapi.json`)).json()
    for (const operation of neverDone(system.logFile('gateway'), document as object))
      say(`never answered 2xx: ${operation}`)
    clean &&= books.status === 0
    say(clean ? 'schemathesis found nothing, and the books are right' : 'Something was found: see above')
    return await end(clean ? 0 : 1)
  } catch (error) {
    if (!ending) console.error(error)
    return end(1)
  }
}

process.exit(await runAll())
