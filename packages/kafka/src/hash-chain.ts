import { hash } from 'node:crypto'
import type { IncomingRecord } from './record.ts'

/** One record of a chain: a Kafka record, with its headers encoded into one byte string. */
export type ChainedRecord = {
  offset: bigint
  /** Milliseconds since 1970, as received. */
  timestampMs: bigint
  key: Buffer | null
  headers: Buffer
  value: Buffer | null
}

/** Chains are separate by epoch: a recreated topic counts its offsets from 0 again. */
export type Chain = { topic: string; epoch: number; partition: number }

const LENGTH_OF_NULL = 0xffff_ffff

/** Each field is prefixed by its length, so that no two lists of fields share a preimage; null differs from empty. */
const lengthPrefixed = (fields: Array<Buffer | null>): Buffer => {
  const bytes = Buffer.allocUnsafe(fields.reduce((sum, field) => sum + 4 + (field?.length ?? 0), 0))
  let at = 0
  for (const field of fields) {
    at = bytes.writeUInt32BE(field?.length ?? LENGTH_OF_NULL, at)
    if (field) at += field.copy(bytes, at)
  }
  return bytes
}

const int64 = (value: bigint): Buffer => {
  const bytes = Buffer.allocUnsafe(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

const sha256 = (bytes: Buffer): Buffer => hash('sha256', bytes, 'buffer')

/** A record as it is stored and chained. */
export const chainedRecordOf = (record: IncomingRecord): ChainedRecord => ({
  offset: record.offset,
  timestampMs: BigInt(record.timestamp),
  key: record.key,
  headers: lengthPrefixed(record.headers.flatMap(([name, value]) => [Buffer.from(name), value])),
  value: record.value,
})

/** The headers of a chained record, in order; of bytes that chainedRecordOf did not write none: a changed record. */
export const headersOf = ({ headers }: Pick<ChainedRecord, 'headers'>): Array<[string, Buffer]> => {
  const fields: Buffer[] = []
  for (let at = 0; at < headers.length; ) {
    if (at + 4 > headers.length) return []
    const given = headers.readUInt32BE(at)
    const length = given === LENGTH_OF_NULL ? 0 : given
    const end = at + 4 + length
    if (end > headers.length) return []
    fields.push(headers.subarray(at + 4, end))
    at = end
  }
  if (fields.length % 2 !== 0) return []
  return Array.from({ length: fields.length / 2 }, (_, n) => [
    fields[2 * n]!.toString('utf8'),
    fields[2 * n + 1]!,
  ])
}

/** All bytes of one record that the chain protects; two records with equal bytes are the same. */
export const bytesOf = (record: ChainedRecord): Buffer =>
  lengthPrefixed([int64(record.offset), int64(record.timestampMs), record.key, record.headers, record.value])

/** The hash to which a chain's first record is chained: it binds the chain to its topic, epoch and partition. */
export const genesisOf = ({ topic, epoch, partition }: Chain): Buffer =>
  sha256(
    lengthPrefixed(
      ['pennywire:audit', topic, String(epoch), String(partition)].map(part => Buffer.from(part)),
    ),
  )

/** A record's hash: over the previous record's hash and its own bytes. */
export const hashAfter = (previous: Buffer, recordBytes: Buffer): Buffer =>
  sha256(Buffer.concat([previous, recordBytes]))
