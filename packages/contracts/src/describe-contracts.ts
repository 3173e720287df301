// `npm run docs`: writes the tables of problems, topics and records into docs/*.md, between their markers, and the
// AsyncAPI document of the topics, from the code. A test compares the documents with the code.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { asyncApiDocument } from './asyncapi.ts'
import { changesOf, type Field, nestedRecords, type RecordSchema, typeText } from './avro-words.ts'
import { FROZEN, type FrozenVersion, loadFrozen } from './frozen-schemas.ts'
import { PROBLEMS } from './problems.ts'
import { kindOf } from './record-kinds.ts'
import { canonicalSchema, RECORD_NAMES } from './schemas.ts'
import { TOPICS, type Topic } from './topics.ts'

const table = (head: string[], rows: string[][]): string =>
  [head, head.map(() => '---'), ...rows].map(cells => `| ${cells.join(' | ')} |`).join('\n')

const yesOrNo = (value: boolean) => (value ? 'yes' : 'no')

const problemsTable = (): string =>
  table(
    ['Code', 'Status', 'Meaning', 'Retryable', 'Final'],
    Object.entries(PROBLEMS).map(([code, { status, title, retryable, final }]) => [
      `\`${code}\``,
      String(status),
      title,
      yesOrNo(retryable),
      yesOrNo(final),
    ]),
  )

const DAY_MS = 24 * 60 * 60 * 1_000

const topicsTable = (): string =>
  table(
    ['Topic', 'Partitions', 'Kept'],
    Object.entries(TOPICS).map(([topic, { partitions, retentionMs }]) => [
      `\`${topic}\``,
      String(partitions),
      retentionMs < 0 ? 'for ever' : `${retentionMs / DAY_MS} days`,
    ]),
  )

const fieldsTable = (fields: Field[]): string =>
  table(
    ['Field', 'Type', 'Meaning'],
    fields.map(({ name, type, doc }) => [`\`${name}\``, typeText(type), doc]),
  )

/** Topic, key, order and the rule for duplicates; the first field of each record is its id. */
const rulesText = ({ name, namespace, fields }: RecordSchema): string => {
  const { topic, key, order, repeats } = kindOf(`${namespace}.${name}`)
  const movesMoney = fields.some(field => field.name === 'entries')
  const once = `do once-only work by \`${fields[0]!.name}\``
  return [
    `- Topic \`${topic}\`. Key: ${key}. Order: ${order}.`,
    `- Duplicates: ${repeats}; ${once}${movesMoney ? ', keep balances by "a greater `sequence` wins"' : ''}.`,
  ].join('\n')
}

const listed = (paths: string[]) => paths.map(path => `\`${path}\``).join(', ')

/** The versions that were ever sent, each with the fields by which it differs from the one before. */
const versionsText = (versions: FrozenVersion[]): string => {
  const texts = changesOf(versions).map(({ version, added, dropped }, index) => {
    if (index === 0) return `${version}`
    const changes = [
      ...(added.length > 0 ? [`adds ${listed(added)}`] : []),
      ...(dropped.length > 0 ? [`drops ${listed(dropped)}`] : []),
    ]
    return `${version} ${changes.join(' and ') || 'changes defaults alone'}`
  })
  return `- Versions: ${texts.join('; ')}.`
}

/** A decoded value as JSON: amounts as numbers, bytes in hex, and of each array one item. */
const exampleOf = (value: unknown): unknown => {
  if (typeof value === 'bigint') return Number(value)
  if (Buffer.isBuffer(value)) return `0x${value.toString('hex')}`
  if (Array.isArray(value)) return value.slice(0, 1).map(exampleOf)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, exampleOf(member)]))
}

const exampleText = ({ version, examples }: FrozenVersion): string => {
  const json = JSON.stringify(exampleOf(examples[0]!.value), null, 2)
  // A list of one word is on one line, as the format check requires.
  const text = json.replaceAll(/\[\s+("[^"]*"|\d+)\s+\]/g, '[$1]')
  return [
    `<details><summary>Example of version ${version}</summary>`,
    `\`\`\`json\n${text}\n\`\`\``,
    '</details>',
  ].join('\n\n')
}

const recordText = (schema: RecordSchema, versions: FrozenVersion[]): string =>
  [
    `### ${schema.name}`,
    `\`${schema.namespace}.${schema.name}\`. ${schema.doc}`,
    [rulesText(schema), ...(versions.length > 0 ? [versionsText(versions)] : [])].join('\n'),
    fieldsTable(schema.fields),
    ...nestedRecords(schema.fields).map(
      nested => `\`${nested.name}\`: ${nested.doc}\n\n${fieldsTable(nested.fields)}`,
    ),
    ...versions.slice(-1).map(exampleText),
  ].join('\n\n')

/** The records by topic, as links to their sections. */
const indexTable = (schemas: RecordSchema[]): string => {
  const byTopic = Map.groupBy(schemas, ({ namespace, name }) => kindOf(`${namespace}.${name}`).topic)
  return table(
    ['Topic', 'Records'],
    Object.keys(TOPICS).flatMap(topic => {
      const links = byTopic.get(topic as Topic)?.map(({ name }) => `[${name}](#${name.toLowerCase()})`)
      return links ? [[`\`${topic}\``, links.join(', ')]] : []
    }),
  )
}

const recordsText = (): string => {
  const frozen = Map.groupBy(loadFrozen(FROZEN), ({ name }) => name)
  const schemas = RECORD_NAMES.map(name => JSON.parse(canonicalSchema(name)) as RecordSchema)
  return [
    indexTable(schemas),
    ...schemas.map(schema => recordText(schema, frozen.get(schema.name) ?? [])),
  ].join('\n\n')
}

const SECTIONS: Record<string, () => string> = {
  problems: problemsTable,
  topics: topicsTable,
  records: recordsText,
}

/** The document with its generated sections regenerated from the current code. */
export const describe = (text: string): string =>
  text.replace(
    /(<!-- begin (\w+)[^\n]*-->\n)[\s\S]*?(<!-- end \2 -->)/g,
    (_whole, begin: string, section: string, end: string) => `${begin}\n${SECTIONS[section]!()}\n\n${end}`,
  )

/** The documents that have generated sections. */
export const DESCRIBED = ['api.md', 'events.md'].map(
  file => new URL(`../../../docs/${file}`, import.meta.url),
)

/** The AsyncAPI document. In JSON, which needs no parser of its own in the gateway and in other teams' tools. */
export const ASYNCAPI_FILE = new URL('../../../docs/asyncapi.json', import.meta.url)

if (import.meta.main) {
  for (const file of DESCRIBED) writeFileSync(file, describe(readFileSync(file, 'utf8')))
  writeFileSync(ASYNCAPI_FILE, JSON.stringify(asyncApiDocument()))
  // Aligns the tables and the document, because the format check requires it.
  const biome = fileURLToPath(new URL('../../../node_modules/.bin/biome', import.meta.url))
  const written = [...DESCRIBED, ASYNCAPI_FILE].map(file => fileURLToPath(file))
  const { status } = spawnSync(biome, ['format', '--write', ...written], { stdio: 'inherit' })
  process.exitCode = status ?? 1
}
