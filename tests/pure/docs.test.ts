// The documents refer only to existing links, commands, settings, source files and problem codes.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DESCRIBED, describe as describeContracts } from '@pennywire/contracts/describe-contracts.ts'
import { PROBLEMS } from '@pennywire/contracts/problems.ts'
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { describe, expect, test } from 'vitest'
import { SETTINGS, settingsText } from '../describe-settings.ts'

const root = join(import.meta.dirname, '..', '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

/** Removes the spaces that align tables. */
const collapsed = (text: string) => text.replace(/ {2,}/g, ' ').replace(/-{3,}/g, '---')

const documents = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.md'))
    .map(file => `docs/${file}`),
]

const sources = ['packages', 'services', 'tests', 'examples'].flatMap(folder =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts') && !file.includes('node_modules'))
    .map(file => `${folder}/${file}`),
)

/** A heading's anchor, as GitHub generates it. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

const SETTING =
  /`((?:[A-Z][A-Z0-9]*_)+(?:PORT|URL|FILE|ABOVE|LEVEL|COST|ID|FROM|PROXIES|FACTOR|PASSWORD|DATA|BROKERS))\b|`(RATE_LIMIT_\w+)`/g

describe.each(documents)('%s', document => {
  const text = read(document)

  test('every relative link leads somewhere', () => {
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? document : join(dirname(document), path)
      expect(existsSync(join(root, file)), target).toBe(true)
      if (anchor === undefined) continue
      const anchors = [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchorOf(heading!))
      expect(anchors, target).toContain(anchor)
    }
  })

  test('every command is in package.json', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    for (const [, name = ''] of text.matchAll(/npm run (\w[\w-]*(?::[\w-]+)*)/g))
      expect(Object.keys(scripts)).toContain(name)
  })

  test('every setting is in the code or in the compose file', () => {
    const code = [...sources.map(read), read('docker-compose.yml')].join('\n')
    for (const [, setting, limit] of text.matchAll(SETTING)) {
      expect(code.includes(setting ?? limit!), setting ?? limit).toBe(true)
    }
  })

  test('every source file that is named is there', () => {
    for (const [, name = ''] of text.matchAll(/`([a-z][\w-]*\.ts)`/g)) {
      if (name.startsWith('x.')) continue
      expect(
        sources.some(path => path.endsWith(`/${name}`)),
        name,
      ).toBe(true)
    }
  })
})

test.each(DESCRIBED)('%s has the tables of the code: npm run docs', file => {
  const text = readFileSync(file, 'utf8')
  expect(text).toMatch(/<!-- begin \w+/)
  expect(collapsed(text)).toBe(collapsed(describeContracts(text)))
})

describe('docs/events.md: the catalogue', () => {
  const records = read('docs/events.md')
    .split('<!-- begin records')[1]!
    .split('\n### ')
    .slice(1)
    .map(text => [text.split('\n', 1)[0]!, text] as const)

  test('has every record', () => {
    expect(records.map(([name]) => name)).toEqual(RECORD_NAMES.map(name => name.split('.').at(-1)))
  })

  test.each(records)('%s: meaning, key, order, duplicates, versions, fields and an example', (name, text) => {
    expect(text).toMatch(new RegExp(`\\n\`pennywire\\.\\w+\\.${name}\`\\. [A-Z].{10}`))
    expect(text).toMatch(/^- Topic `[\w.]+`\. Key: .+\. Order: .+\.$/m)
    expect(text).toMatch(/^- Duplicates: .+; do once-only work by `\w+`.*\.$/m)
    expect(text).toMatch(/^- Versions: 1(; \d+ (adds|drops) `.+`)*\.$/m)
    const fields = [...text.matchAll(/^\| `(\w+)` +\|/gm)].map(([, field]) => field!)
    const [, version, example] = /<summary>Example of version (\d+)<[^`]*```json\n([\s\S]*?)\n```/.exec(text)!
    expect(text).toMatch(new RegExp(`^- Versions:.*\\b${version}\\b`, 'm'))
    // The table's first fields are the record's own, in the order of the example; nested records follow.
    const names = Object.keys(JSON.parse(example!))
    expect(fields.slice(0, names.length)).toEqual(names)
  })
})

test('docs/settings.md has every setting once, with what it is for: npm run docs', () => {
  expect(collapsed(read('docs/settings.md'))).toBe(collapsed(settingsText()))
  for (const [title, rows] of SETTINGS)
    for (const [name, , , what] of rows) expect(what, `${title} ${name}`).toMatch(/.\.$/)
})

describe('docs/consume.md', () => {
  const page = read('docs/consume.md')
  const folder = 'examples/balances'
  const files = {
    ts: `${folder}/typescript/balances.ts`,
    python: `${folder}/python/balances.py`,
    java: `${folder}/java/Balances.java`,
  }
  /** Without indentation, because a snippet begins at the margin. */
  const flat = (text: string) => text.replaceAll(/^\s+/gm, '').trim()

  test.each(Object.entries(files))(
    'every snippet of %s is part of the consumer that the tests run',
    (language, file) => {
      const snippets = [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)\\n\`\`\`$`, 'gm'))]
      expect(snippets.length).toBeGreaterThan(0)
      for (const [, snippet] of snippets) expect(flat(read(file))).toContain(flat(snippet!))
    },
  )

  test.each(Object.values(files))('%s begins with the commands that the page states', file => {
    const head = read(file).split('\n').slice(0, 8)
    const commands = head.flatMap(line => /^(?:\/\/)? {2,}(\S.*)/.exec(line)?.[1] ?? [])
    expect(commands.length).toBeGreaterThan(0)
    for (const command of commands) expect(page).toContain(`\`${command}\``)
  })

  test('no other version of Kafka’s client is pinned for another team than the one in use', () => {
    const { dependencies } = JSON.parse(read(`${folder}/typescript/package.json`))
    const catalog = read('pnpm-workspace.yaml')
    const { name: kit, version: kitVersion } = JSON.parse(read('packages/consumer/package.json'))
    expect(dependencies[kit]).toBe(kitVersion)
    expect(page).toContain(`pennywire-consumer-${kitVersion}.tgz`)
    for (const [name, version] of Object.entries(dependencies).filter(([name]) => name !== kit))
      expect(catalog).toMatch(new RegExp(`^  '?${name}'?: ${RegExp.escape(version as string)}$`, 'm'))
  })
})

describe('docs/security.md: what holds each point', () => {
  const named = [...read('docs/security.md').matchAll(/`([\w.-]+\.test\.ts)` › (.+?)(?=<br>| *\||$)/gm)]

  test('there are points', () => expect(named.length).toBeGreaterThan(50))

  test.each(named.map(([, file, name]) => [file!, name!]))('%s › %s', (file, name) => {
    const titles = ["'", '"', '`'].map(quote => `${quote}${name}${quote},`)
    const files = sources.filter(path => path.endsWith(`/${file}`)).map(read)
    expect(files.some(source => titles.some(title => source.includes(title)))).toBe(true)
  })
})

describe('docs/operations.md: when two operations meet', () => {
  const operations = ['transfer', 'deposit', 'withdrawal', 'hold', 'reversal', 'freeze', 'close', 'limit']
  const section = read('docs/operations.md').split('## When two operations meet')[1]!.split('\n## ')[0]!
  const rows = [...section.matchAll(/^\*\*(\w+, \w+)\*\*: ([\s\S]*?)\n\n((?:- .*\n)+)/gm)].map(
    ([, pair, what, tests]) => [pair!, what!, tests!.trim()] as [string, string, string],
  )

  test('every pair of them has one entry', () => {
    const pairs = operations.flatMap((first, index) =>
      operations.slice(index).map(second => `${first}, ${second}`),
    )
    expect(rows.map(([pair]) => pair)).toEqual(pairs)
  })

  test.each(rows)('%s: each test that it names is there', (_pair, _what, tests) => {
    const named = tests.split('\n').map(each => /^- `([\w-]+\.test\.ts)` › (.+)$/.exec(each))
    expect(named.length).toBeGreaterThan(0)
    for (const match of named) {
      const [, file, name] = match ?? []
      const source = read(`tests/${file}`)
      const titles = ["'", '"', '`'].map(quote => `(${quote}${name}${quote}, `)
      expect(
        titles.some(title => source.includes(title)),
        `${file} › ${name}`,
      ).toBe(true)
    }
  })

  test('every code that it names is a problem of the API', () => {
    const codes = [...section.matchAll(/`([A-Z][A-Z_]+[A-Z])`/g)].map(([, code]) => code!)
    expect(codes.length).toBeGreaterThan(0)
    for (const code of codes) expect(PROBLEMS).toHaveProperty(code)
  })
})

describe('README', () => {
  const readme = collapsed(read('README.md'))

  test('names each port with its default', () => {
    const settings = read('packages/stack/src/read-settings.ts')
    const ports = [...settings.matchAll(/(\w+_PORT): port\((\d+)\)/g)]
    expect(ports.length).toBe(6)
    for (const [, name, usual] of ports) expect(readme).toContain(`| \`${name}\` | ${usual} |`)
  })
})
