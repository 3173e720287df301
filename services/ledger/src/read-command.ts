import { isCurrency, MAX_MINOR } from '@pennywire/contracts/money.ts'
import { isLedgerCommand, type LedgerCommand } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'

/** A record's command, or the reason why it contains none. */
export type Command =
  | LedgerCommand
  | { type: 'poison'; reason: string }
  /** Not signed by a gateway: any client with write access to the topic can have written it. */
  | { type: 'unsigned'; reason: string }

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** The last moment whose ISO text Postgres parses: from the year 10000 on it begins with a sign. */
const LAST_MS = Date.UTC(10_000, 0) - 1
/** Most bytes of a command's texts (note, metadata, …) together, so that its event fits where the command did. */
const MAX_TEXT_BYTES = 64 * 1024
/** Most bytes of a whole command. Its event repeats it and adds entries and headers; a topic accepts 1 MiB. */
const MAX_COMMAND_BYTES = 128 * 1024

const ID_FIELDS = [
  'transferId',
  'commandId',
  'userId',
  'walletId',
  'fromWalletId',
  'toWalletId',
  'originalId',
  'holdId',
] as const
/** Amounts, which must be above zero if present; limits may be zero, which forbids any movement. */
const AMOUNT_FIELDS = ['amountMinor'] as const
const LIMIT_FIELDS = ['perTransactionMinor', 'dailyMinor', 'monthlyMinor'] as const
const TIME_FIELDS = ['requestedAt', 'expiresAt', 'holdUntil', 'authenticatedAt'] as const
const WORD_FIELDS = ['type', 'source'] as const

/** The first format rule that a command breaks. Gateways keep all rules; other clients may write to the topic too. */
const brokenRule = (record: IncomingRecord, command: LedgerCommand): string | undefined => {
  if (!UUID.test(record.key?.toString('latin1') ?? '')) return 'the key is not a wallet id'
  if (record.value!.length > MAX_COMMAND_BYTES) return `the command is longer than ${MAX_COMMAND_BYTES} bytes`
  const value = command.value as Partial<
    Record<(typeof ID_FIELDS | typeof WORD_FIELDS)[number], string | null> &
      Record<(typeof AMOUNT_FIELDS | typeof LIMIT_FIELDS)[number], bigint | null> &
      Record<(typeof TIME_FIELDS)[number], number | null> & { currency: string; fingerprint: Buffer }
  >
  for (const field of ID_FIELDS) {
    const id = value[field]
    if (id !== undefined && id !== null && !UUID.test(id)) return `${field} is not a UUID`
  }
  if (value.currency !== undefined && !isCurrency(value.currency)) return 'currency is not in use'
  for (const field of TIME_FIELDS) {
    const time = value[field]
    if (time !== undefined && time !== null && (time < 0 || time > LAST_MS)) return `${field} is out of range`
  }
  if (value.fingerprint !== undefined && value.fingerprint.length !== 16) return 'fingerprint is not 16 bytes'
  for (const field of WORD_FIELDS) {
    const word = value[field]
    if (word !== undefined && word !== null && !/^[a-z_]{1,32}$/.test(word)) return `${field} is not a word`
  }
  // The texts are within the record: a short one needs no sum.
  const texts =
    record.value!.length > MAX_TEXT_BYTES
      ? Object.entries(value).filter(([field, text]) => Buffer.isBuffer(text) && field !== 'fingerprint')
      : []
  if (texts.reduce((sum, [, text]) => sum + (text as Buffer).length, 0) > MAX_TEXT_BYTES) {
    return `${texts.map(([field]) => field).join(', ')} are together longer than ${MAX_TEXT_BYTES} bytes`
  }
  for (const field of AMOUNT_FIELDS) {
    const amount = value[field]
    if (amount !== undefined && amount !== null && (amount <= 0n || amount > MAX_MINOR)) {
      return `${field} is out of range`
    }
  }
  for (const field of LIMIT_FIELDS) {
    const limit = value[field]
    if (limit !== undefined && limit !== null && (limit < 0n || limit > MAX_MINOR)) {
      return `${field} is out of range`
    }
  }
  return undefined
}

/**
 * Reads a record of ledger.commands. A failure that no retry can fix is returned as poison, with the reason; rejects
 * only if the registry cannot be queried.
 */
export const readCommand = async (codec: Codec, record: IncomingRecord): Promise<Command> => {
  try {
    const decoded = await codec.decodeRecord(record)
    if (!isLedgerCommand(decoded.type)) return { type: 'poison', reason: `${decoded.type} is no command` }
    const command = decoded as LedgerCommand
    const reason = brokenRule(record, command)
    return reason === undefined ? command : { type: 'poison', reason }
  } catch (error) {
    if (error instanceof UndecodableRecord) return { type: 'poison', reason: error.message }
    throw error
  }
}
