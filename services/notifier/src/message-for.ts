import { notificationIdOf, referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { isProblemCode, PROBLEMS } from '@pennywire/contracts/problems.ts'
import type { AnyRecord, TransferCompleted, TransferRejected } from '@pennywire/contracts/schemas.ts'

export type Notification = {
  id: string
  userId: string
  type: string
  title: string
  body: string
  transferId: string
  /** Milliseconds since 1970, by the ledger's clock. */
  createdAt: number
}

type Message = Pick<Notification, 'type' | 'title' | 'body'>

/** What a record tells users, and whom: empty for records that tell nobody anything. Names nobody but by id. */
export const messagesFor = (record: AnyRecord): Notification[] => {
  switch (record.type) {
    case 'pennywire.ledger.TransferCompleted':
      return record.value.entries.flatMap(entry =>
        entry.userId === null
          ? []
          : [
              notification(
                record.value,
                entry.userId,
                record.value.completedAt,
                completed(record.value, entry),
              ),
            ],
      )
    case 'pennywire.ledger.TransferRejected':
      return [
        notification(record.value, record.value.userId, record.value.rejectedAt, rejected(record.value)),
      ]
    default:
      return []
  }
}

const notification = (
  { transferId }: { transferId: string },
  userId: string,
  createdAt: number,
  message: Message,
): Notification => ({
  id: notificationIdOf(transferId, userId, message.type),
  userId,
  ...message,
  transferId,
  createdAt,
})

const completed = (
  { type, transferId }: TransferCompleted,
  { amountMinor, balanceAfterMinor, currency }: TransferCompleted['entries'][number],
): Message => {
  const amount = `${formatAmount(amountMinor < 0n ? -amountMinor : amountMinor, currency)} ${currency}`
  const after = `Your balance is ${formatAmount(balanceAfterMinor, currency)} ${currency} (${referenceOf(transferId)}).`
  if (type === 'deposit')
    return {
      type: 'deposit_completed',
      title: 'Deposit completed',
      body: `${amount} came into your wallet. ${after}`,
    }
  // Types that are newer than this text are money that came or went as well.
  return amountMinor < 0n
    ? { type: `${type}_sent`, title: 'Money sent', body: `You sent ${amount}. ${after}` }
    : { type: `${type}_received`, title: 'Money received', body: `You received ${amount}. ${after}` }
}

const rejected = ({ type, transferId, amountMinor, currency, code, detail }: TransferRejected): Message => {
  const noun = type === 'deposit' || type === 'withdrawal' ? type : 'transfer'
  const amount = `${formatAmount(amountMinor, currency)} ${currency}`
  return {
    type: `${type}_rejected`,
    title: `${noun[0]!.toUpperCase()}${noun.slice(1)} declined`,
    // The detail is written for API clients; it stands in where the code is newer than this version.
    body: `Your ${noun} of ${amount} was not made. ${isProblemCode(code) ? PROBLEMS[code].title : detail} (${referenceOf(transferId)}).`,
  }
}
