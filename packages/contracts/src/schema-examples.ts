import { createHash } from 'node:crypto'
import { MAX_MINOR } from './money.ts'

type Examples = { full: unknown; sparse: unknown }

/** Example values of text fields that need a realistic one, in place of `the FIELD`. */
const TEXTS: Record<string, string> = { currency: 'USD', type: 'transfer' }

/**
 * Deterministic example values for a schema: `full` has every optional part, `sparse` has none. Together they cover
 * both sides of every optional field.
 */
export const examplesOf = (schema: unknown, field: string): Examples => {
  const both = (value: unknown): Examples => ({ full: value, sparse: value })
  if (Array.isArray(schema)) {
    const some = schema.find(branch => branch !== 'null')
    return {
      full: examplesOf(some, field).full,
      sparse: schema.includes('null') ? null : examplesOf(some, field).sparse,
    }
  }
  const detail = (typeof schema === 'string' ? { type: schema } : schema) as {
    type: string
    logicalType?: string
    items?: unknown
    values?: unknown
    symbols?: string[]
    size?: number
    fields?: Array<{ name: string; type: unknown }>
  }
  const digest = createHash('sha256').update(field).digest()
  const hex = digest.toString('hex')
  switch (detail.logicalType ?? detail.type) {
    case 'uuid':
      return both(
        `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`,
      )
    case 'timestamp-millis':
      return both(Date.UTC(2026, 0, 1) + digest[0]! * 1_000)
    case 'minor-units':
      return { full: 1_250n, sparse: MAX_MINOR }
    case 'string':
      return both(TEXTS[field] ?? `the ${field}`)
    case 'bytes':
      return { full: digest.subarray(0, 16), sparse: Buffer.alloc(0) }
    case 'boolean':
      return { full: true, sparse: false }
    case 'int':
    case 'long':
      return { full: 7, sparse: 0 }
    case 'float':
    case 'double':
      return { full: 0.5, sparse: 0 }
    case 'enum':
      return { full: detail.symbols!.at(-1), sparse: detail.symbols![0] }
    case 'array':
      return {
        full: [examplesOf(detail.items, field).full, examplesOf(detail.items, field).sparse],
        sparse: [],
      }
    case 'map':
      return { full: { key: examplesOf(detail.values, field).full }, sparse: {} }
    case 'record': {
      const members = detail.fields!.map(({ name, type }) => [name, examplesOf(type, name)] as const)
      return {
        full: Object.fromEntries(members.map(([name, { full }]) => [name, full])),
        sparse: Object.fromEntries(members.map(([name, { sparse }]) => [name, sparse])),
      }
    }
    default:
      throw new Error(`${field}: no example for the Avro type ${JSON.stringify(schema)}`)
  }
}
