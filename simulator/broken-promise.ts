import { type AnyRecord, avroType, RECORD_NAMES } from '@pennywire/contracts/schemas.ts'

/** A promise of the design (section 8) that does not hold. */
export class BrokenPromise extends Error {
  override name = 'BrokenPromise'
  readonly promise: string

  constructor(promise: string, message: string) {
    super(`${promise}: ${message}`)
    this.promise = promise
  }
}

export function hold(holds: unknown, promise: string, message: () => string): asserts holds {
  if (!holds) throw new BrokenPromise(promise, message())
}

const PREFIX_BYTES = 5
const types = RECORD_NAMES.map(avroType)

/** Decodes a record without the codec under test, and synchronously. Undefined if it is not one of ours. */
export const decodeNow = (bytes: Buffer | null): AnyRecord | undefined => {
  if (!bytes || bytes.length <= PREFIX_BYTES || bytes[0] !== 0) return undefined
  const index = bytes.readUInt32BE(1) - 1
  const type = types[index]
  if (!type) return undefined
  try {
    return { type: RECORD_NAMES[index], value: type.fromBuffer(bytes.subarray(PREFIX_BYTES)) } as AnyRecord
  } catch {
    return undefined
  }
}
