import { z } from '@hono/zod-openapi'
import { timestamp } from '../http/define-route.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { money, moneyOut } from '../money/money-headers.ts'

/** The encryption purpose of a freeze's reason: always under the key of the wallet's owner, even if staff wrote it. */
export const FREEZE_REASON = 'freeze-reason'

/** The encryption purpose of a wallet's name. */
export const WALLET_LABEL = 'wallet-label'

export const WALLET_EXAMPLE = {
  id: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11',
  code: 'PW-4Q8T1ZKC',
  label: 'Rent',
  currency: 'USD',
  status: 'active' as const,
  freeze: null,
  balance: '87.50',
  available: '75.00',
  createdAt: '2026-01-02T08:15:00.000Z',
  closedAt: null,
}

export const walletSchema = z
  .object({
    id: z.uuid(),
    code: z.string().openapi({ example: 'PW-7K2M9QXA', description: 'What others send money to' }),
    label: z.string().nullable().openapi({ example: 'Rent', description: 'What its owner calls it' }),
    currency: z.string().openapi({ example: 'USD' }),
    status: z.enum(['active', 'frozen', 'closed']),
    freeze: z
      .object({
        source: z.enum(['self', 'pin', 'staff']),
        reason: z.string().nullable().openapi({ example: 'My phone was stolen' }),
      })
      .nullable()
      .openapi({ description: 'Who froze it, and why, while it is frozen' }),
    balance: moneyOut,
    available: moneyOut.openapi({ description: 'The balance less what is held' }),
    createdAt: timestamp,
    closedAt: timestamp.nullable(),
  })
  .openapi('Wallet', { example: WALLET_EXAMPLE })

export type WalletView = z.infer<typeof walletSchema>

/** Users' wallets as their owners and staff see them; reasons and names are decrypted with one lookup for all keys. */
export const viewWallets = async (
  personKeys: Pick<PersonKeys, 'decryptAll'>,
  wallets: readonly WalletFacts[],
): Promise<WalletView[]> => {
  const sealed = wallets.flatMap(({ userId, freezeReason, label }) => [
    ...(userId !== null && freezeReason !== null
      ? [{ userId, cipher: freezeReason, purpose: FREEZE_REASON }]
      : []),
    ...(userId !== null && label !== null ? [{ userId, cipher: label, purpose: WALLET_LABEL }] : []),
  ])
  const opened = sealed.length > 0 ? await personKeys.decryptAll(sealed) : []
  return wallets.map(wallet => ({
    id: wallet.id,
    code: wallet.code!,
    currency: wallet.currency,
    status: wallet.status,
    freeze: wallet.freezeSource && {
      source: wallet.freezeSource,
      reason: wallet.freezeReason === null ? null : (opened.shift() ?? null),
    },
    label: wallet.label === null ? null : (opened.shift() ?? null),
    balance: money(wallet.balance, wallet.currency),
    available: money(wallet.available, wallet.currency),
    createdAt: wallet.openedAt.toISOString(),
    closedAt: wallet.closedAt?.toISOString() ?? null,
  }))
}
