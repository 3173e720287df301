// `npm run docs`: writes the tables of problems, topics and records into docs/*.md, between their markers, from the
// code. A test compares the documents with the code.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { PROBLEMS } from './problems.ts'
import { canonicalSchema, RECORD_NAMES } from './schemas.ts'
import { TOPICS } from './topics.ts'

type Field = { name: string; type: unknown; doc: string; default?: unknown }
type RecordSchema = { name: string; namespace: string; doc: string; fields: Field[] }

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

/** An Avro type as text; nullable and repeated types are described in words. */
const typeText = (type: unknown): string => {
  if (typeof type === 'string') return type
  if (Array.isArray(type)) return `${typeText(type.find(branch => branch !== 'null'))} or null`
  const { logicalType, type: inner, items, name } = type as Record<string, unknown>
  if (items) return `array of ${typeText(items)}`
  if (inner === 'record') return String(name)
  return logicalType ? `${inner} (${logicalType})` : String(inner)
}

const fieldsTable = (fields: Field[]): string =>
  table(
    ['Field', 'Type', 'Meaning'],
    fields.map(({ name, type, doc }) => [`\`${name}\``, typeText(type), doc]),
  )

/** Records defined inline in a record's fields. */
const nestedRecords = (fields: Field[]): RecordSchema[] =>
  fields.flatMap(({ type }) => {
    const { items } = type as { items?: { type?: string } & RecordSchema }
    return items?.type === 'record' ? [items] : []
  })

const recordText = ({ name, namespace, doc, fields }: RecordSchema): string =>
  [
    `### ${name}`,
    `\`${namespace}.${name}\`. ${doc}`,
    fieldsTable(fields),
    ...nestedRecords(fields).map(
      nested => `\`${nested.name}\`: ${nested.doc}\n\n${fieldsTable(nested.fields)}`,
    ),
  ].join('\n\n')

const recordsText = (): string =>
  RECORD_NAMES.map(name => recordText(JSON.parse(canonicalSchema(name)) as RecordSchema)).join('\n\n')

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

if (import.meta.main) {
  for (const file of DESCRIBED) writeFileSync(file, describe(readFileSync(file, 'utf8')))
  // Aligns the tables, because the format check requires it.
  const biome = fileURLToPath(new URL('../../../node_modules/.bin/biome', import.meta.url))
  const { status } = spawnSync(biome, ['format', '--write', ...DESCRIBED.map(file => fileURLToPath(file))], {
    stdio: 'inherit',
  })
  process.exitCode = status ?? 1
}
