// Writes src/generated/records.ts from events/*.avsc: one TypeScript type for each record, and the map from full
// names to them; and the same with the schemas, of the events that other teams may read, for packages/consumer. Runs on
// every install; the results are not committed, because the schemas are the source.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'

type Schema =
  | string
  | Schema[]
  | { type: 'array'; items: Schema }
  | { type: 'map'; values: Schema }
  | { type: 'record'; name: string; namespace?: string; doc?: string; fields: Field[] }
  | { type: string; logicalType?: string }
type Field = { name: string; type: Schema; doc?: string }

const PRIMITIVES: Record<string, string> = {
  null: 'null',
  boolean: 'boolean',
  int: 'number',
  long: 'number',
  float: 'number',
  double: 'number',
  string: 'string',
  bytes: 'Buffer',
}

const typeOf = (schema: Schema, indent: string): string => {
  if (Array.isArray(schema)) return schema.map(branch => typeOf(branch, indent)).join(' | ')
  if (typeof schema === 'string') {
    const primitive = PRIMITIVES[schema]
    if (!primitive) throw new Error(`unknown Avro type ${schema}`)
    return primitive
  }
  if ('items' in schema) return `Array<${typeOf(schema.items, indent)}>`
  if ('values' in schema) return `Record<string, ${typeOf(schema.values, indent)}>`
  if ('fields' in schema) {
    const fields = schema.fields.map(
      field =>
        `${indent}  /** ${field.doc ?? ''} */\n${indent}  ${field.name}: ${typeOf(field.type, `${indent}  `)}\n`,
    )
    return `{\n${fields.join('')}${indent}}`
  }
  if ('logicalType' in schema && schema.logicalType === 'minor-units') return 'bigint'
  return typeOf(schema.type, indent)
}

const directory = new URL('../events/', import.meta.url)
const records = readdirSync(directory)
  .filter(file => file.endsWith('.avsc'))
  .sort()
  .map(file => JSON.parse(readFileSync(new URL(file, directory), 'utf8')))

type RecordOf = (typeof records)[number]
const fullName = ({ namespace, name }: RecordOf) => `${namespace}.${name}`
const typesOf = (of: RecordOf[]) =>
  of.map(record => `/** ${record.doc} */\nexport type ${record.name} = ${typeOf(record, '')}\n`).join('\n')
const mapOf = (of: RecordOf[]) => of.map(record => `  '${fullName(record)}': ${record.name}\n`).join('')
const HEAD =
  '// Made from events/*.avsc by generate-types.ts. Times are milliseconds since 1970 (UTC), ids are UUIDs.'

const write = (target: URL, text: string) => {
  mkdirSync(new URL('./', target), { recursive: true })
  writeFileSync(target, text)
}

write(
  new URL('./generated/records.ts', import.meta.url),
  `${HEAD}

${typesOf(records)}
/** Every record by its full name, which is its registry subject as well. */
export type Records = {
${mapOf(records)}}

export type RecordName = keyof Records
`,
)

// Commands are internal, and so is what the notifier is asked for.
const events = records.filter(
  ({ namespace, name }) =>
    namespace === 'pennywire.identity' || (namespace === 'pennywire.ledger' && !name.endsWith('Requested')),
)
write(
  new URL('../../consumer/src/generated/events.ts', import.meta.url),
  `${HEAD}

${typesOf(events)}
/** Every event by its full name, which the header ce_type states. */
export type Events = {
${mapOf(events)}}

export type EventName = keyof Events

/** The events' Avro schemas: the newest version of each that this kit knows. */
export const SCHEMAS: Readonly<Record<EventName, object>> = ${JSON.stringify(
    Object.fromEntries(events.map(record => [fullName(record), record])),
    null,
    2,
  )}
`,
)
