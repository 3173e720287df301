import type { StoredRecord } from './sql/records.ts'

// Postgres' binary COPY format: a signature, flags, the length of an extension; then each row.
const HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)])
const TRAILER = Buffer.from([0xff, 0xff])
const FIELDS = 9
const FIELD_LENGTH_BYTES = 4
/** Two 4-byte numbers and two 8-byte ones. */
const NUMBER_BYTES = 24
const NULL_LENGTH = -1

/**
 * Rows in Postgres' binary COPY format, for the columns that copyRows names: a third of the time of an insert, and no
 * text of every byte.
 */
export const encodeRows = (rows: readonly StoredRecord[]): Buffer => {
  let size = HEADER.length + TRAILER.length
  for (const { topic, key, headers, value, hash } of rows)
    size +=
      2 +
      FIELDS * FIELD_LENGTH_BYTES +
      NUMBER_BYTES +
      Buffer.byteLength(topic) +
      (key?.length ?? 0) +
      headers.length +
      (value?.length ?? 0) +
      hash.length
  const bytes = Buffer.allocUnsafe(size)
  let at = HEADER.copy(bytes)
  const writeBytes = (field: Buffer | null) => {
    at = bytes.writeInt32BE(field ? field.length : NULL_LENGTH, at)
    if (field) at += field.copy(bytes, at)
  }
  const writeInt32 = (value: number) => {
    at = bytes.writeInt32BE(4, at)
    at = bytes.writeInt32BE(value, at)
  }
  const writeInt64 = (value: bigint) => {
    at = bytes.writeInt32BE(8, at)
    at = bytes.writeBigInt64BE(value, at)
  }
  for (const row of rows) {
    at = bytes.writeInt16BE(FIELDS, at)
    writeBytes(Buffer.from(row.topic))
    writeInt32(row.epoch)
    writeInt32(row.partition)
    writeInt64(row.offset)
    writeInt64(row.timestampMs)
    writeBytes(row.key)
    writeBytes(row.headers)
    writeBytes(row.value)
    writeBytes(row.hash)
  }
  at += TRAILER.copy(bytes, at)
  return bytes.subarray(0, at)
}
