// Rules that a reviewer would otherwise repeat. Each rule is shown to find its example, and is applied to every file.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, matchesGlob, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

const root = join(import.meta.dirname, '..', '..')
const FOLDERS = ['packages', 'services', 'tests', 'bench', 'simulator', 'examples'].filter(folder =>
  existsSync(join(root, folder)),
)

type Source = { path: string; text: string }

const sources: Source[] = FOLDERS.flatMap(folder =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map(file => `${folder}/${file}`)
    .filter(path => /\.(ts|mjs|sql)$/.test(path) && !/(^|\/)(node_modules|generated|results)\//.test(path))
    .map(path => ({ path, text: readFileSync(join(root, path), 'utf8') })),
)

/** The commands are read from knip.json, because knip needs the same list. */
const knip = JSON.parse(readFileSync(join(root, 'knip.json'), 'utf8')) as {
  workspaces: Record<string, { entry: string[] }>
}
const COMMANDS = Object.entries(knip.workspaces).flatMap(([workspace, { entry }]) =>
  entry.map(pattern => join(workspace, pattern)).filter(pattern => !pattern.includes('*')),
)
const isCommand = (path: string) => COMMANDS.some(pattern => matchesGlob(path, pattern))

/** Tests, and code that only tests and benchmarks use. */
const isTest = (path: string) =>
  /\.test\.ts$|(^|\/)test-[\w-]+\.ts$/.test(path) || /^(tests|bench|simulator)\//.test(path)

/** Pure modules: no clock, no randomness, no I/O. */
const PURE = [
  'packages/consumer/src/balances.ts',
  'packages/contracts/src/event-examples.ts',
  'packages/contracts/src/ids.ts',
  'packages/contracts/src/money.ts',
  'packages/contracts/src/problems.ts',
  'packages/contracts/src/record-kinds.ts',
  'packages/contracts/src/schema-compatibility.ts',
  'packages/contracts/src/schema-examples.ts',
  'packages/contracts/src/topics.ts',
  'packages/contracts/src/wallet-code.ts',
  'packages/kafka/src/dead-letters.ts',
  'packages/documents/src/describe-receipt.ts',
  'packages/documents/src/receipt-code.ts',
  'packages/documents/src/visual-runs.ts',
  'packages/kafka/src/record.ts',
  'packages/messages/src/catalogue.ts',
  'packages/messages/src/de.ts',
  'packages/messages/src/en.ts',
  'packages/messages/src/notices.ts',
  'packages/messages/src/receipt-words.ts',
  'packages/messages/src/render-notice.ts',
  'packages/rules/src/decide.ts',
  'packages/rules/src/limits.ts',
  'packages/rules/src/wallet-rules.ts',
  'services/audit/src/checkpoint.ts',
  'services/audit/src/copy-rows.ts',
  'packages/kafka/src/hash-chain.ts',
  'services/gateway/src/http/client-address.ts',
  'services/gateway/src/ledger/fingerprint.ts',
  'services/gateway/src/problems/problem.ts',
  'services/ledger/src/apply-command.ts',
  'services/ledger/src/batch-state.ts',
  'services/ledger/src/commands/handler.ts',
  'services/ledger/src/commands/hold.ts',
  'services/ledger/src/commands/index.ts',
  'services/ledger/src/commands/limits.ts',
  'services/ledger/src/commands/reversal.ts',
  'services/ledger/src/commands/transfer-events.ts',
  'services/ledger/src/commands/transfer.ts',
  'services/ledger/src/commands/wallet.ts',
  'services/ledger/src/fence.ts',
  'services/ledger/src/lock-set.ts',
  'services/ledger/src/record-event.ts',
  'services/notifier/src/mail-for.ts',
  'services/notifier/src/notices-for.ts',
]
/** Drawing a new wallet's code is the only randomness allowed in a pure module. */
const DRAWS = 'packages/contracts/src/wallet-code.ts'

const importsOf = (text: string) =>
  [...text.matchAll(/(?:\bfrom|\bimport|\bimport\(|\brequire\()\s*'([^']+)'/g)].map(([, name]) => name!)

/** The path that an import resolves to, from the root of the repository; packages by their folder. */
const targetOf = (path: string, name: string) =>
  name.startsWith('.')
    ? normalize(join(dirname(path), name))
    : name.replace(/^@pennywire\//, 'packages/').replace(/^(packages\/[\w-]+)\//, '$1/src/')

const mayImport = (path: string, target: string): boolean => {
  const [area = '', name = ''] = path.split('/')
  // Another team has the published kit alone, and copies one file.
  if (area === 'examples')
    return (
      target === 'packages/consumer' ||
      !target.includes('/') ||
      target.startsWith('@') ||
      target.startsWith('node:')
    )
  if (area !== 'packages' && area !== 'services') return true
  const own = `${area}/${name}/`
  if (`${target}/`.startsWith(own) || !/^(packages|services|tests|bench|simulator)\//.test(target))
    return true
  const imported = /^packages\/([\w-]+)\//.exec(target)?.[1]
  if (imported === undefined) return false
  // The kit is published, and brings what it needs.
  if (own === 'packages/consumer/' && !isTest(path)) return false
  if (own === 'packages/consumer/') return true
  if (own === 'packages/contracts/' || own === 'packages/runtime/') return false
  if (own === 'packages/rules/' || own === 'packages/messages/') return imported === 'contracts'
  if (own === 'packages/documents/') return ['contracts', 'messages', 'runtime'].includes(imported)
  if (own === 'packages/kafka/') return ['contracts', 'runtime'].includes(imported)
  if (own === 'packages/stack/') return true
  return (
    ['consumer', 'contracts', 'documents', 'kafka', 'messages', 'rules', 'runtime'].includes(imported) ||
    (imported === 'stack' && isTest(path))
  )
}

const GATEWAY = 'services/gateway/src/'
/** The gateway's rooms: each may import only those before it. The last one, the folder itself, wires them together. */
const ROOMS = [
  ...['problems', 'access', 'http', 'queues', 'streams', 'outbox', 'ledger'],
  ...[
    'events',
    'persons',
    'sessions',
    'accounts',
    'pin',
    'api-keys',
    'second-factor',
    'sign-in',
    'staff',
  ].map(room => `identity/${room}`),
  ...['identity', 'money', 'limits', 'wallets', 'recipients', 'transfers', 'reversals', 'holds', 'payments'],
  ...['statements', 'notifications', 'receipts', 'webhooks', 'privacy', 'audit', ''],
]
/** The only import against the order: identity is created from the whole configuration. */
const AGAINST_THE_ORDER = [
  'services/gateway/src/identity/create-identity.ts > services/gateway/src/config.ts',
]

const floorOf = (path: string): number => {
  const room = dirname(path.slice(GATEWAY.length))
    .replace(/^\.$/, '')
    .replace(/(^|\/)sql$/, '')
  return ROOMS.indexOf(room)
}

/** Imports from a later room, and rooms that are not listed. */
const upwardImports = ({ path, text }: Source): string[] => {
  if (floorOf(path) === -1) return ['its room is not in ROOMS']
  return importsOf(text)
    .map(name => targetOf(path, name))
    .filter(target => target.startsWith(GATEWAY) && floorOf(target) > floorOf(path))
    .filter(target => !AGAINST_THE_ORDER.includes(`${path} > ${target}`))
}

/** Files that import each other in a circle, directly or through others; type imports count. */
const circlesIn = (files: Source[]): string[] => {
  const paths = new Set(files.map(({ path }) => path))
  const imports = new Map(
    files.map(({ path, text }) => [
      path,
      importsOf(text)
        .map(name => targetOf(path, name))
        .filter(target => paths.has(target)),
    ]),
  )
  const done = new Set<string>()
  const circles: string[] = []
  const walk = (path: string, way: string[]) => {
    const at = way.indexOf(path)
    if (at >= 0) circles.push([...way.slice(at), path].join(' > '))
    if (at >= 0 || done.has(path)) return
    for (const target of imports.get(path) ?? []) walk(target, [...way, path])
    done.add(path)
  }
  for (const path of paths) walk(path, [])
  return circles
}

type Rule = {
  rule: string
  /** The files to which the rule applies; all files if absent. */
  applies?: (path: string) => boolean
  /** Finds violations: by a pattern, or by a function over the whole file. */
  finds: RegExp | ((source: Source) => string[])
  /** A violation that the rule must find. */
  example: Source
}

const RULES: Rule[] = [
  {
    rule: 'SQL stands below sql/',
    applies: path =>
      !/\/src\/(.+\/)?sql\//.test(path) &&
      !isTest(path) &&
      !path.startsWith('packages/stack/') &&
      !/^packages\/runtime\/src\/(database|migrate)\.ts$/.test(path),
    finds:
      /\b(sql|tx)(<[^`]*>)?`|`\s*(select\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|lock\s+table\s|truncate\s|create\s+table\s|alter\s+table\s)|\.unsafe\(/i,
    example: { path: 'services/ledger/src/main.ts', text: 'const one = await db`\n  select 1`' },
  },
  {
    rule: 'the environment is read where a process begins',
    applies: path =>
      path.endsWith('.ts') &&
      !/\/src\/(main|migrate|config)\.ts$/.test(path) &&
      !isCommand(path) &&
      !isTest(path) &&
      !path.startsWith('packages/stack/'),
    finds: /process\.env/,
    example: { path: 'packages/rules/src/decide.ts', text: 'if (process.env.DEBUG) log()' },
  },
  {
    rule: 'pure files wait for nothing and ask no clock, no chance and no server',
    applies: path => PURE.includes(path),
    finds: ({ path, text }) =>
      text.match(
        path === DRAWS
          ? /\bawait\b|\basync\b|Date\.now|new Date\(\)|Math\.random|random(UUID|Bytes)/g
          : /\bawait\b|\basync\b|Date\.now|new Date\(\)|Math\.random|random(UUID|Bytes|Int)|from 'node:(fs|http|timers)/g,
      ) ?? [],
    example: { path: 'packages/rules/src/decide.ts', text: 'const now = Date.now()' },
  },
  {
    // The wall clock may step back: a wait that is measured by it then lasts longer by the whole step.
    // Tokens and their keys expire at wall clock times, which all gateways share.
    rule: 'durations are measured by a clock that never steps back',
    applies: path => !isTest(path) && !path.endsWith('/sessions/tokens.ts'),
    finds: /clock\.now\(\)\s*[-<>]|[-<>]=?\s*clock\.now\(\)/,
    example: {
      path: 'services/ledger/src/publish-journal.ts',
      text: 'if (clock.now() - checkedAt > 1_000) check()',
    },
  },
  {
    // So that the simulator and tests run them without waiting. The excepted files end threads, sockets and commands.
    rule: 'services take the time from a Clock',
    applies: path =>
      /^services\/\w+\/src\//.test(path) &&
      !isTest(path) &&
      !/\/(main|config|reconcile|worker-pool|read-body|statement-pdf)\.ts$/.test(path),
    finds: /\bDate\.now\(\)|\bset(Timeout|Interval)\(|'node:timers\/promises'/,
    example: { path: 'services/ledger/src/publish-journal.ts', text: 'const now = Date.now()' },
  },
  {
    rule: 'prose names the thing: a clause is no noun',
    // Migrations are excepted: they stay as they ran.
    applies: path => path.endsWith('.ts'),
    finds: /\b(whoever|whatever|nonetheless)\b/i,
    example: {
      path: 'services/gateway/src/ledger/ask-ledger.ts',
      text: '// Whoever asks again is answered.',
    },
  },
  {
    rule: 'kafkajs speaks only inside packages/kafka and packages/consumer',
    // The kit and the examples are for other teams' programs, which have a client of their own.
    applies: path => !/^(packages\/(kafka|consumer)|examples)\//.test(path),
    finds: /['"](kafkajs|@kafkajs\/[\w-]+)/,
    example: { path: 'services/audit/src/main.ts', text: "import kafkajs from 'kafkajs'" },
  },
  {
    // Work whose processor time grows with a client's input runs in a worker thread, never on the event loop.
    rule: 'pdfkit and zxcvbn run in worker threads',
    applies: path =>
      !isTest(path) && !/-worker\.ts$|\/(statement-pdf|receipt-pdf|text-writer)\.ts$/.test(path),
    finds: /\bfrom '(pdfkit|@zxcvbn-ts\/[\w-]+|[\w@./-]*\/(statement-pdf|receipt-pdf|text-writer)\.ts)'/,
    example: {
      path: 'services/gateway/src/statements/statement-routes.ts',
      text: "import { x } from '../statement-pdf.ts'",
    },
  },
  {
    rule: 'imports lead to packages only, rules to contracts, contracts and runtime to nothing of ours',
    finds: ({ path, text }) => importsOf(text).filter(name => !mayImport(path, targetOf(path, name))),
    example: { path: 'services/ledger/src/main.ts', text: "import { x } from '../../gateway/src/app.ts'" },
  },
  {
    rule: 'a room of the gateway imports rooms below it alone',
    applies: path => path.startsWith(GATEWAY) && path.endsWith('.ts') && !isTest(path),
    finds: upwardImports,
    example: {
      path: 'services/gateway/src/ledger/ask-ledger.ts',
      text: "import { x } from '../transfers/request-transfer.ts'",
    },
  },
  {
    rule: 'no test is left out, none runs alone',
    applies: path => path.endsWith('.test.ts'),
    finds: /\b(test|it|describe)(\.each)?\.(only|skip|todo|fails)\b/,
    example: { path: 'tests/transfer.test.ts', text: 'test.only("it", () => {})' },
  },
  {
    rule: 'nothing is put off in a comment',
    finds: /\b(TODO|FIXME|HACK|XXX+:)/,
    example: { path: 'services/ledger/src/main.ts', text: '// TODO: later' },
  },
  {
    rule: 'a file is named by its one subject, in lower case with hyphens',
    finds: ({ path }) => {
      const name = path.split('/').at(-1)!
      const vague = /(^|-)(utils?|helpers?|common|shared|misc|manager|service)(\.|-)/.test(name)
      return vague || !/^[a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)*$/.test(name) ? [name] : []
    },
    example: { path: 'services/ledger/src/utils.ts', text: '' },
  },
  {
    // Its output may be longer than a pipe holds. Words of usage are short, and `start` ends with its children.
    rule: 'a command ends by endCommand, which lets its output out, or by itself',
    applies: path => !path.startsWith('packages/runtime/') && !path.endsWith('/stack/src/start.ts'),
    finds: ({ text }) =>
      text.includes('beginCommand(') ? (text.match(/process\.exit\((?!EXIT\.usage\)).*/g) ?? []) : [],
    example: {
      path: 'services/ledger/src/verify-books.ts',
      text: 'beginCommand(USAGE)\nconsole.log(rows)\nprocess.exit(EXIT.ok)',
    },
  },
  {
    rule: 'code does not ask whether it is being tested',
    applies: path => !isTest(path),
    // Production mode refuses unsafe settings and changes nothing else.
    finds: /NODE_ENV(?!=production| === 'production')|VITEST/,
    example: { path: 'services/ledger/src/main.ts', text: "if (process.env.NODE_ENV === 'test') skip()" },
  },
]

/** The violations of a rule in a file: the path with the line, or with the finding. */
const breaksOf = ({ applies = () => true, finds }: Rule, source: Source): string[] => {
  if (!applies(source.path)) return []
  if (typeof finds === 'function') return finds(source).map(found => `${source.path}: ${found}`)
  return [...source.text.matchAll(new RegExp(finds.source, `${finds.flags}g`))].map(
    ({ index }) => `${source.path}:${source.text.slice(0, index).split('\n').length}`,
  )
}

const here = 'tests/pure/house-rules.test.ts'

describe.each(RULES)('$rule', rule => {
  test('is kept', () => {
    const broken = sources.filter(({ path }) => path !== here).flatMap(source => breaksOf(rule, source))
    expect(broken).toEqual([])
  })

  test('would be seen to be broken', () => expect(breaksOf(rule, rule.example)).toHaveLength(1))
})

test('imports of every kind are seen', () => {
  const text = `import type { A } from './a.ts'\nexport * from './b.ts'\nawait import('./c.ts')\nimport './d.ts'`
  expect(importsOf(text)).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts'])
})

test('no file imports itself by way of others', () => expect(circlesIn(sources)).toEqual([]))

test('a circle would be seen, and a room that nobody has listed', () => {
  const file = (path: string, name: string, how = 'import type') => ({
    path,
    text: `${how} { x } from '${name}'`,
  })
  const [a, b, c] = [
    file('simulator/a.ts', './b.ts'),
    file('simulator/b.ts', './c.ts'),
    file('simulator/c.ts', './b.ts', 'import'),
  ]
  expect(circlesIn([a, b, c])).toEqual(['simulator/b.ts > simulator/c.ts > simulator/b.ts'])
  expect(circlesIn([a, b])).toEqual([])
  expect(upwardImports(file('services/gateway/src/fees/fee.ts', './x.ts'))).toEqual([
    'its room is not in ROOMS',
  ])
})

test.each([
  ['services/ledger/src/main.ts', '@pennywire/stack/stack.ts', false],
  ['services/ledger/src/sql/test-database.ts', '@pennywire/stack/test-database.ts', true],
  ['services/ledger/src/main.ts', '@pennywire/gateway/app.ts', false],
  ['services/ledger/src/main.ts', '../../../tests/client.ts', false],
  ['services/ledger/src/main.ts', '@pennywire/kafka/consumer.ts', true],
  ['services/ledger/src/main.ts', 'postgres', true],
  ['packages/contracts/src/ids.ts', '@pennywire/runtime/clock.ts', false],
  ['packages/contracts/src/ids.ts', './money.ts', true],
  ['packages/runtime/src/config.ts', '../../contracts/src/money.ts', false],
  ['packages/kafka/src/consumer.ts', '@pennywire/stack/stack.ts', false],
  ['services/gateway/src/main.ts', '@pennywire/rules/decide.ts', true],
  ['packages/documents/src/receipt-pdf.ts', '@pennywire/messages/receipt-words.ts', true],
  ['packages/documents/src/receipt-pdf.ts', '@pennywire/kafka/codec.ts', false],
  ['packages/rules/src/decide.ts', '@pennywire/contracts/money.ts', true],
  ['packages/rules/src/decide.ts', '@pennywire/runtime/clock.ts', false],
  ['packages/contracts/src/ids.ts', '@pennywire/rules/decide.ts', false],
  ['packages/kafka/src/consumer.ts', '@pennywire/rules/decide.ts', false],
  ['examples/balances/typescript/balances.ts', '@pennywire/kafka/client.ts', false],
  ['examples/balances/typescript/balances.ts', '@pennywire/consumer', true],
  ['examples/balances/typescript/balances.ts', './more.ts', false],
  ['packages/consumer/src/start-consumer.ts', '@pennywire/kafka/client.ts', false],
  ['packages/consumer/src/start-consumer.ts', '@pennywire/contracts/schemas.ts', false],
  ['packages/consumer/src/start-consumer.ts', 'kafkajs', true],
  ['services/notifier/src/notify.ts', '@pennywire/consumer/watch-sequences.ts', true],
  ['examples/balances/typescript/balances.ts', '@kafkajs/confluent-schema-registry', true],
  ['examples/balances/typescript/balances.ts', 'node:fs', true],
])('%s may import %s: %s', (path, name, may) => {
  expect(mayImport(path, targetOf(path, name))).toBe(may)
})

test('the files that rules speak of are there', () => {
  for (const path of [...PURE, ...COMMANDS.flatMap(pattern => expand(pattern))]) {
    expect(
      sources.some(source => source.path === path),
      path,
    ).toBe(true)
  }
})

/** Expands "src/{a,b}.ts" to "src/a.ts" and "src/b.ts". */
function expand(pattern: string): string[] {
  const match = /^(.*)\{([^}]+)\}(.*)$/.exec(pattern)
  if (!match) return [pattern]
  return match[2]!.split(',').map(choice => `${match[1]}${choice}${match[3]}`)
}
