import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import avsc from 'avsc'
import { incompatibilities, type RecordSchema } from './schema-compatibility.ts'
import { examplesOf } from './schema-examples.ts'
import { AVRO_LOGICAL_TYPES, canonicalSchema, RECORD_NAMES } from './schemas.ts'

/** Every schema version ever sent, with check sums in sha256sum's format. */
export const FROZEN = new URL('../frozen/', import.meta.url)
const SUMS = 'SHA256SUMS'
/** The command that freezes a schema which is ahead of its newest frozen version. */
export const FREEZE_COMMAND = 'npm run schemas:freeze'

/** One value and its Avro bytes, without the five-byte prefix of the wire format: its schema id is the registry's. */
export type FrozenExample = { value: Record<string, unknown>; bytes: Buffer }
export type FrozenVersion = { name: string; version: number; schema: RecordSchema; examples: FrozenExample[] }

/** The current schemas: the next freeze would write these. */
export const currentSchemas = (): RecordSchema[] =>
  RECORD_NAMES.map(name => JSON.parse(canonicalSchema(name)) as RecordSchema)

/** A value as stored in JSON: {"minorUnits": "1250"} is the bigint 1250n, {"hex": "00ff"} are two bytes. */
const toJson = (value: unknown): unknown => {
  if (typeof value === 'bigint') return { minorUnits: value.toString() }
  if (Buffer.isBuffer(value)) return { hex: value.toString('hex') }
  if (Array.isArray(value)) return value.map(toJson)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, toJson(member)]))
}

const fromJson = (_name: string, value: unknown): unknown => {
  if (typeof value !== 'object' || value === null) return value
  if ('minorUnits' in value) return BigInt(value.minorUnits as string)
  if ('hex' in value) return Buffer.from(value.hex as string, 'hex')
  return value
}

const sumOf = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex')

/** Frozen files that were removed or changed since they were frozen, and files not written by the freeze command. */
export const frozenFaults = (directory: URL): string[] => {
  const sums = existsSync(new URL(SUMS, directory)) ? readFileSync(new URL(SUMS, directory), 'utf8') : ''
  const known = new Map(
    sums
      .split('\n')
      .filter(line => line !== '')
      .map(line => [line.slice(66), line.slice(0, 64)]),
  )
  const files = existsSync(directory)
    ? readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(file =>
        /\.(avsc|json)$/.test(file),
      )
    : []
  return [
    ...[...known].flatMap(([file, sum]) => {
      if (!files.includes(file)) return [`${file} was removed`]
      return sumOf(readFileSync(new URL(file, directory))) === sum ? [] : [`${file} was changed`]
    }),
    ...files.filter(file => !known.has(file)).map(file => `${file} was not frozen by ${FREEZE_COMMAND}`),
  ]
}

/** Every frozen version, by record name and ascending version. */
export const loadFrozen = (directory: URL): FrozenVersion[] => {
  if (!existsSync(directory)) return []
  const read = (path: string) => readFileSync(new URL(path, directory), 'utf8')
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .flatMap(path => {
      const match = /^(\w+)\/v(\d+)\.avsc$/.exec(path)
      return match ? [{ name: match[1]!, version: Number(match[2]) }] : []
    })
    .sort((a, b) => a.name.localeCompare(b.name) || a.version - b.version)
    .map(({ name, version }) => {
      const { examples } = JSON.parse(read(`${name}/v${version}.example.json`)) as {
        examples: Array<{ value: unknown; bytes: string }>
      }
      return {
        name,
        version,
        schema: JSON.parse(read(`${name}/v${version}.avsc`)) as RecordSchema,
        examples: examples.map(({ value, bytes }) => ({
          value: JSON.parse(JSON.stringify(value), fromJson) as Record<string, unknown>,
          bytes: Buffer.from(bytes, 'hex'),
        })),
      }
    })
}

/** A schema without its docs: a changed doc makes no new version. */
const withoutDocs = (schema: RecordSchema): string =>
  JSON.stringify(schema, (name, value) => (name === 'doc' && typeof value === 'string' ? undefined : value))

/** For tests: the type of one frozen version, as a writer of that version has it. */
export const frozenType = (name: string, version: number): avsc.Type =>
  avsc.Type.forSchema(
    JSON.parse(readFileSync(new URL(`${name}/v${version}.avsc`, FROZEN), 'utf8')) as avsc.Schema,
    { logicalTypes: AVRO_LOGICAL_TYPES },
  )

export type LedgerStatus =
  | { kind: 'frozen' }
  | { kind: 'to be frozen'; version: number }
  | { kind: 'refused'; reasons: string[] }

/** Compares a schema with all its frozen versions, not only the newest: a topic may contain records of any of them. */
export const standingOf = (schema: RecordSchema, frozen: FrozenVersion[]): LedgerStatus => {
  const versions = frozen.filter(({ name }) => name === schema.name)
  const reasons = versions.flatMap(({ version, schema: older }) =>
    incompatibilities(older, schema).map(reason => `${reason} (v${version})`),
  )
  if (reasons.length > 0) return { kind: 'refused', reasons }
  const newest = versions.at(-1)
  if (newest && withoutDocs(newest.schema) === withoutDocs(schema)) return { kind: 'frozen' }
  return { kind: 'to be frozen', version: (newest?.version ?? 0) + 1 }
}

/**
 * Adds the next version of every schema that changed, with examples and their bytes; never changes an existing version.
 * If any schema is refused, nothing is written.
 */
export const freeze = (schemas: RecordSchema[], directory: URL): { added: string[]; refused: string[] } => {
  const faults = frozenFaults(directory)
  if (faults.length > 0) return { added: [], refused: faults }
  const frozen = loadFrozen(directory)
  const standings = schemas.map(schema => ({ schema, standing: standingOf(schema, frozen) }))
  const refused = standings.flatMap(({ standing }) => (standing.kind === 'refused' ? standing.reasons : []))
  if (refused.length > 0) return { added: [], refused }

  const added: string[] = []
  for (const { schema, standing } of standings) {
    if (standing.kind !== 'to be frozen') continue
    const type = avsc.Type.forSchema(schema as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
    const { full, sparse } = examplesOf(schema, schema.name)
    const examples = [full, sparse].map(value => ({
      value: toJson(value),
      bytes: type.toBuffer(value).toString('hex'),
    }))
    mkdirSync(new URL(`${schema.name}/`, directory), { recursive: true })
    for (const [suffix, content] of [
      ['avsc', schema],
      ['example.json', { examples }],
    ] as const) {
      const file = `${schema.name}/v${standing.version}.${suffix}`
      const text = `${JSON.stringify(content, null, 2)}\n`
      writeFileSync(new URL(file, directory), text)
      appendFileSync(new URL(SUMS, directory), `${sumOf(text)}  ${file}\n`)
    }
    added.push(`${schema.name} v${standing.version}`)
  }
  return { added, refused }
}
