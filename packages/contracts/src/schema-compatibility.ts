import avsc from 'avsc'
import { AVRO_LOGICAL_TYPES } from './schemas.ts'

type Field = { name: string; type: Schema; default?: unknown }
type Schema = string | Schema[] | NamedSchema
type NamedSchema = {
  type: string
  name?: string
  namespace?: string
  doc?: string
  logicalType?: string
  fields?: Field[]
  items?: Schema
  values?: Schema
  symbols?: string[]
  default?: unknown
  size?: number
}

/** A record's schema, as in its `.avsc` file. */
export type RecordSchema = NamedSchema & { type: 'record'; name: string; namespace: string; fields: Field[] }

const detailOf = (schema: Schema): Partial<NamedSchema> =>
  typeof schema === 'object' ? (schema as NamedSchema) : {}

/** The parts of a type that must not change for a reader: the Avro type, its name, its logical type and its size. */
const identityOf = (schema: Schema): string => {
  if (Array.isArray(schema)) return 'union'
  if (typeof schema === 'string') return schema
  const { type, name, namespace, logicalType, size } = schema
  return [type, name && `${namespace ?? ''}.${name}`, logicalType, size].filter(Boolean).join(' ')
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b)

/**
 * Changes in `newer` that break a reader or a writer of `older`, by field. Stricter than Avro's own resolution: Avro
 * accepts that text becomes bytes, that a time in milliseconds becomes one in microseconds, and that a changed default
 * changes the meaning of old records.
 */
const breaksBetween = (older: Schema, newer: Schema, at: string): string[] => {
  if (identityOf(older) !== identityOf(newer)) {
    return [`${at} was "${identityOf(older)}" and is "${identityOf(newer)}"`]
  }
  if (Array.isArray(older) && Array.isArray(newer)) {
    const branch = (of: Schema[], identity: string) => of.find(one => identityOf(one) === identity)
    const identities = new Set([...older, ...newer].map(identityOf))
    return [...identities].flatMap(identity => {
      const [before, now] = [branch(older, identity), branch(newer, identity)]
      if (!before) return [`${at} may now be "${identity}", which an old reader does not know`]
      if (!now) return [`${at} may no longer be "${identity}", which old records are`]
      return breaksBetween(before, now, at)
    })
  }
  const [before, now] = [detailOf(older), detailOf(newer)]
  if (before.items && now.items) return breaksBetween(before.items, now.items, `${at}[]`)
  if (before.values && now.values) return breaksBetween(before.values, now.values, `${at}{}`)
  if (before.symbols && now.symbols) {
    const added = now.symbols.filter(symbol => !before.symbols!.includes(symbol))
    const removed = before.symbols.filter(symbol => !now.symbols!.includes(symbol))
    return [
      ...removed.map(symbol => `${at} lost the symbol ${symbol}, which old records hold`),
      ...(before.default === undefined
        ? added.map(symbol => `${at} got the symbol ${symbol}, and an old reader has no default for it`)
        : []),
      ...(same(before.default, now.default) ? [] : [`${at} has another default symbol`]),
    ]
  }
  if (before.fields && now.fields) return fieldBreaks(before.fields, now.fields, at)
  return []
}

const fieldBreaks = (older: Field[], newer: Field[], at: string): string[] => [
  ...older.flatMap(before => {
    const path = `${at}.${before.name}`
    const now = newer.find(({ name }) => name === before.name)
    if (now) {
      const changed = 'default' in before && 'default' in now && !same(before.default, now.default)
      return [
        ...breaksBetween(before.type, now.type, path),
        ...(changed ? [`${path} has another default, so records without it would change their meaning`] : []),
      ]
    }
    return 'default' in before ? [] : [`${path} is gone, and an old reader has no default for it`]
  }),
  ...newer
    .filter(({ name, ...field }) => !('default' in field) && !older.some(before => before.name === name))
    .map(({ name }) => `${at}.${name} is new and has no default for old records`),
]

/** Avro's own check: each version must be able to read records written with the other. */
const resolutionErrors = (older: RecordSchema, newer: RecordSchema): string[] => {
  const typeOf = (schema: RecordSchema) =>
    avsc.Type.forSchema(schema as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })
  try {
    const [before, now] = [typeOf(older), typeOf(newer)]
    now.createResolver(before)
    before.createResolver(now)
    return []
  } catch (error) {
    return [(error as Error).message]
  }
}

/**
 * Why two versions of a record cannot share a topic; empty if they can: a client with either version reads records
 * written with the other (the registry's FULL).
 */
export const incompatibilities = (older: RecordSchema, newer: RecordSchema): string[] => {
  const breaks = breaksBetween(older, newer, older.name)
  return breaks.length > 0 ? breaks : resolutionErrors(older, newer)
}
