import { isCurrency, MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { TransferRequested, WalletOpenRequested } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'

/** What a record asks for, or why it asks for nothing that can be understood. */
export type Asked =
  | { type: 'pennywire.ledger.TransferRequested'; value: TransferRequested }
  | { type: 'pennywire.ledger.WalletOpenRequested'; value: WalletOpenRequested }
  | { type: 'poison'; reason: string }

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** The last moment that a JavaScript date and a Postgres timestamp can both hold. */
const LAST_MS = 8_640_000_000_000_000

/** The first rule that a command's form breaks. The gateway keeps them all; others may write to the topic too. */
const brokenRule = (
  record: IncomingRecord,
  asked: Exclude<Asked, { type: 'poison' }>,
): string | undefined => {
  const { value } = asked
  const ids =
    asked.type === 'pennywire.ledger.TransferRequested'
      ? [asked.value.transferId, asked.value.fromWalletId, asked.value.toWalletId]
      : [asked.value.commandId, asked.value.walletId]
  if (!UUID.test(record.key?.toString('latin1') ?? '')) return 'the key is not a wallet id'
  if ([...ids, value.userId].some(id => id !== null && !UUID.test(id))) return 'an id is not a UUID'
  if (!isCurrency(value.currency)) return 'currency is not in use'
  if (value.requestedAt < 0 || value.requestedAt > LAST_MS) return 'requestedAt is out of range'
  if (asked.type === 'pennywire.ledger.TransferRequested') {
    const { fingerprint, type, amountMinor } = asked.value
    if (fingerprint.length !== 16) return 'fingerprint is not 16 bytes'
    if (!/^[a-z_]{1,32}$/.test(type)) return 'type is not a word'
    if (amountMinor <= 0n || amountMinor > MAX_MINOR) return 'amountMinor is out of range'
  }
  return undefined
}

/**
 * Reads a record of ledger.commands. What no wait can mend comes back as poison, with the reason; rejects only where
 * the registry could not be asked.
 */
export const readCommand = async (codec: Codec, record: IncomingRecord): Promise<Asked> => {
  try {
    const decoded = await codec.decode(record.value)
    switch (decoded.type) {
      case 'pennywire.ledger.TransferRequested':
      case 'pennywire.ledger.WalletOpenRequested': {
        const reason = brokenRule(record, decoded)
        return reason === undefined ? decoded : { type: 'poison', reason }
      }
      default:
        return { type: 'poison', reason: `${decoded.type} is no command` }
    }
  } catch (error) {
    if (error instanceof UndecodableRecord) return { type: 'poison', reason: error.message }
    throw error
  }
}
