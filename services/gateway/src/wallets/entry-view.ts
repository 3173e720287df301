import { z } from '@hono/zod-openapi'
import { timestamp } from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { EntryFacts } from '../ledger/sql/ledger-reads.ts'
import { maskedName, money, moneyOut } from '../money/money-headers.ts'

/** An entry as the owner of its wallet sees it. */
export const entrySchema = z
  .object({
    sequence: z
      .int()
      .openapi({ example: 12, description: "Counts the wallet's entries from 1 without a gap" }),
    transferId: z.uuid(),
    type: z.string().openapi({ example: 'transfer' }),
    amount: moneyOut.openapi({ description: 'Signed: negative where money left', example: '-12.50' }),
    balanceAfter: moneyOut.openapi({ example: '87.50' }),
    counterparty: z
      .object({
        walletId: z.uuid(),
        walletCode: z.string().openapi({ example: 'PW-7K2M9QXA' }),
        name: z.string().openapi({ example: 'Bob B.' }),
      })
      .nullable(),
    createdAt: timestamp,
  })
  .openapi('Entry')

/** Entries of one currency, with the masked names of the other sides. */
export const viewEntries = async (
  names: Pick<Names, 'namesOf'>,
  entries: EntryFacts[],
  currency: string,
): Promise<z.output<typeof entrySchema>[]> => {
  const known = await names.namesOf(entries.flatMap(({ counterpartyUser }) => counterpartyUser ?? []))
  return entries.map(entry => ({
    sequence: Number(entry.sequence),
    transferId: entry.transferId,
    type: entry.type,
    amount: money(entry.amount, currency),
    balanceAfter: money(entry.balanceAfter, currency),
    counterparty:
      entry.counterpartyUser === null || entry.counterpartyCode === null || entry.counterpartyId === null
        ? null
        : {
            walletId: entry.counterpartyId,
            walletCode: entry.counterpartyCode,
            name: maskedName(known.get(entry.counterpartyUser)),
          },
    createdAt: entry.createdAt.toISOString(),
  }))
}
