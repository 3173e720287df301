// Avro schemas in words: for the catalogue, the AsyncAPI document and its page.
import type { FrozenVersion } from './frozen-schemas.ts'

export type Field = { name: string; type: unknown; doc: string; default?: unknown }
export type RecordSchema = { name: string; namespace: string; doc: string; fields: Field[] }

/** An Avro type as text; nullable and repeated types are described in words. */
export const typeText = (type: unknown): string => {
  if (typeof type === 'string') return type
  if (Array.isArray(type)) return `${typeText(type.find(branch => branch !== 'null'))} or null`
  const { logicalType, type: inner, items, name } = type as Record<string, unknown>
  if (items) return `array of ${typeText(items)}`
  if (inner === 'record') return String(name)
  return logicalType ? `${inner} (${logicalType})` : String(inner)
}

/** Records defined inline in a record's fields. */
export const nestedRecords = (fields: Field[]): RecordSchema[] =>
  fields.flatMap(({ type }) => {
    const { items } = type as { items?: { type?: string } & RecordSchema }
    return items?.type === 'record' ? [items] : []
  })

/** The paths of all fields, those of nested records included. */
const fieldPaths = (fields: Field[], at = ''): string[] =>
  fields.flatMap(({ name, type }) => {
    const nested = (type as { items?: { fields?: Field[] } }).items?.fields
    return [`${at}${name}`, ...(nested ? fieldPaths(nested, `${at}${name}[].`) : [])]
  })

/** A version that was sent, with the fields by which it differs from the one before. */
export type VersionChange = { version: number; added: string[]; dropped: string[] }

/** The versions of one record, in order. */
export const changesOf = (versions: FrozenVersion[]): VersionChange[] =>
  versions.map(({ version, schema }, index) => {
    if (index === 0) return { version, added: [], dropped: [] }
    const [before, now] = [versions[index - 1]!.schema, schema].map(one => fieldPaths(one.fields as Field[]))
    return {
      version,
      added: now!.filter(path => !before!.includes(path)),
      dropped: before!.filter(path => !now!.includes(path)),
    }
  })
