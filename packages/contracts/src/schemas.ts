import { readdirSync, readFileSync } from 'node:fs'
import avsc from 'avsc'
import type { RecordName, Records } from './generated/records.ts'
import { MAX_MINOR } from './money.ts'

export type * from './generated/records.ts'

/**
 * Money in Avro: a `long` of minor units, a bigint in TypeScript. Readers in other languages see a plain long. Throws
 * on an amount that a `long` read as a JavaScript number would not represent exactly; the ledger's rules prevent such
 * amounts (BALANCE_LIMIT).
 */
class MinorUnits extends avsc.types.LogicalType {
  protected override _fromValue(value: number): bigint {
    return BigInt(value)
  }
  protected override _toValue(value: unknown): number | undefined {
    if (typeof value !== 'bigint') return undefined
    if (value > MAX_MINOR || value < -MAX_MINOR) throw new RangeError(`${value} minor units pass 2^53 - 2`)
    return Number(value)
  }
  protected override _resolve(type: avsc.Type): ((value: unknown) => unknown) | undefined {
    return avsc.Type.isType(type, 'long', 'logical:minor-units')
      ? value => (typeof value === 'bigint' ? value : BigInt(value as number))
      : undefined
  }
}

/** Maps Avro logical types to TypeScript values; all our readers and writers use the same map. */
export const AVRO_LOGICAL_TYPES = { 'minor-units': MinorUnits }

type AvroSchema = { name: string; namespace: string; [attribute: string]: unknown }

const directory = new URL('../events/', import.meta.url)
const schemas = new Map<string, AvroSchema>(
  readdirSync(directory)
    .filter(file => file.endsWith('.avsc'))
    .map(file => JSON.parse(readFileSync(new URL(file, directory), 'utf8')) as AvroSchema)
    .map(schema => [`${schema.namespace}.${schema.name}`, schema]),
)

/** The full names of all records; each is also the record's registry subject. */
export const RECORD_NAMES = [...schemas.keys()].sort() as RecordName[]

/** A record's schema as it is registered: one line of JSON, so that formatting makes no new version. */
export const canonicalSchema = (name: RecordName): string => JSON.stringify(schemas.get(name))

/** A record's Avro type as this version of the code writes and reads it. */
export const avroType = (name: RecordName): avsc.Type =>
  avsc.Type.forSchema(schemas.get(name) as avsc.Schema, { logicalTypes: AVRO_LOGICAL_TYPES })

type RecordOf<Name extends RecordName> = { [Each in Name]: { type: Each; value: Records[Each] } }[Name]
/** One decoded record: `type` determines the type of `value`. */
export type AnyRecord = RecordOf<RecordName>

/** The ledger's commands: their names end in `Requested`. */
export type LedgerCommandName = Extract<RecordName, `pennywire.ledger.${string}Requested`>
export type LedgerCommand = RecordOf<LedgerCommandName>
/** The ledger's events: everything else in its namespace. */
export type LedgerEventName = Exclude<Extract<RecordName, `pennywire.ledger.${string}`>, LedgerCommandName>
export type LedgerEvent = RecordOf<LedgerEventName>
export type IdentityEventName = Extract<RecordName, `pennywire.identity.${string}`>
export type IdentityEvent = RecordOf<IdentityEventName>

export const isLedgerCommand = (name: string): name is LedgerCommandName =>
  /^pennywire\.ledger\.\w+Requested$/.test(name) && schemas.has(name)
/** For the `default` of a switch over records: a record without a case does not compile. */
export const unknownRecord = (record: never): never => {
  throw new Error(`${(record as AnyRecord).type} is unknown to this version`)
}

export const isLedgerEvent = (name: string): name is LedgerEventName =>
  name.startsWith('pennywire.ledger.') && schemas.has(name) && !isLedgerCommand(name)
export const isIdentityEvent = (name: string): name is IdentityEventName =>
  name.startsWith('pennywire.identity.') && schemas.has(name)
