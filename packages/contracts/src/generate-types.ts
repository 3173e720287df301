// Writes src/generated/records.ts from events/*.avsc: one TypeScript type for each record, and the map from full
// names to them. Runs on every install; the result is not committed, because the schemas are the source.
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

const events = new URL('../events/', import.meta.url)
const records = readdirSync(events)
  .filter(file => file.endsWith('.avsc'))
  .sort()
  .map(file => JSON.parse(readFileSync(new URL(file, events), 'utf8')))

const types = records.map(
  record => `/** ${record.doc} */\nexport type ${record.name} = ${typeOf(record, '')}\n`,
)
const map = records.map(record => `  '${record.namespace}.${record.name}': ${record.name}\n`)

const target = new URL('./generated/', import.meta.url)
mkdirSync(target, { recursive: true })
writeFileSync(
  new URL('records.ts', target),
  `// Made from events/*.avsc by generate-types.ts. Times are milliseconds since 1970 (UTC), ids are UUIDs.

${types.join('\n')}
/** Every record by its full name, which is its registry subject as well. */
export type Records = {
${map.join('')}}

export type RecordName = keyof Records
`,
)
