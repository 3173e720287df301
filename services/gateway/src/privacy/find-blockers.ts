import { formatAmount } from '@pennywire/contracts/money.ts'
import { highestRole } from '../access/roles.ts'
import type { WalletFacts } from '../ledger/sql/ledger-reads.ts'
import type { Blocker } from './sql/erasures.ts'

/** Named in one answer at most. */
export const MOST_NAMED = 20

/**
 * What stands in the way of an erasure, from the person's wallets, unfinished payments and requests, and roles: money
 * would be nobody's, and what staff froze is not theirs to end. A hold of others in the person's favour does not:
 * otherwise a stranger could keep a person from being erased.
 */
export const blockersOf = (facts: {
  wallets: WalletFacts[]
  payments: string[]
  requests: string[]
  roles: string[]
  /** The person asked for it, and staff have deactivated the account: it may be needed for what staff look into. */
  isLookedInto: boolean
}): Blocker[] => {
  const role = highestRole(facts)
  const ofWallets = facts.wallets
    .filter(({ status }) => status !== 'closed')
    .flatMap(({ id: walletId, balance, available, currency, status, freezeSource }): Blocker[] => [
      ...(balance === 0n
        ? []
        : [
            {
              code: 'WALLET_HAS_BALANCE' as const,
              walletId,
              amount: formatAmount(balance, currency),
              currency,
            },
          ]),
      ...(balance === available
        ? []
        : [
            {
              code: 'WALLET_HAS_HOLDS' as const,
              walletId,
              amount: formatAmount(balance - available, currency),
              currency,
            },
          ]),
      ...(status === 'frozen'
        ? [{ code: 'WALLET_FROZEN' as const, walletId, source: freezeSource ?? 'staff' }]
        : []),
    ])
  return [
    ...(facts.isLookedInto ? [{ code: 'DEACTIVATED_BY_STAFF' as const }] : []),
    ...(role === 'user' ? [] : [{ code: 'HAS_STAFF_ROLE' as const, role }]),
    ...ofWallets,
    ...facts.payments.map(transferId => ({ code: 'PAYMENT_PENDING' as const, transferId })),
    ...facts.requests.map(transferId => ({ code: 'REQUEST_PENDING' as const, transferId })),
  ].slice(0, MOST_NAMED)
}

/** What stands in the way, in words for people. */
export const inWords = (blocker: Blocker): string => {
  switch (blocker.code) {
    case 'WALLET_HAS_BALANCE':
      return `wallet ${blocker.walletId} holds ${blocker.amount} ${blocker.currency}`
    case 'WALLET_HAS_HOLDS':
      return `${blocker.amount} ${blocker.currency} of wallet ${blocker.walletId} are held`
    case 'WALLET_FROZEN':
      return `wallet ${blocker.walletId} is frozen by ${blocker.source}`
    case 'PAYMENT_PENDING':
      return `payment ${blocker.transferId} is not finished`
    case 'REQUEST_PENDING':
      return `request ${blocker.transferId} is not decided`
    case 'DEACTIVATED_BY_STAFF':
      return 'staff have deactivated the account'
    case 'HAS_STAFF_ROLE':
      return `the account has the role ${blocker.role}`
  }
}
